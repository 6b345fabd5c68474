//! Moves of apps from one pool to another, as long as they have not ended.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{JobResult, Result, Store, from_json, to_json};

/// A move that has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MoveRecord {
    /// The app.
    pub(crate) app: String,
    /// The operation that moves it.
    pub(crate) operation: String,
    /// Where to.
    pub(crate) to_pool: String,
    /// The provisioner there.
    pub(crate) to_provisioner: String,
    /// Whether it serves there; what is left is to remove it where it was.
    pub(crate) deployed: bool,
    /// The images of the app, oldest first: of before the move and, once it is deployed, of after it.
    pub(crate) images: Vec<String>,
}

const COLUMNS: &str = "app, operation, to_pool, to_provisioner, deployed, images";

fn read(row: &Row<'_>) -> rusqlite::Result<(MoveRecord, String)> {
    let record = MoveRecord {
        app: row.get(0)?,
        operation: row.get(1)?,
        to_pool: row.get(2)?,
        to_provisioner: row.get(3)?,
        deployed: row.get(4)?,
        images: Vec::new(),
    };
    Ok((record, row.get(5)?))
}

fn with_images((mut record, images): (MoveRecord, String)) -> JobResult<MoveRecord> {
    record.images = from_json("list of images", &images)?;
    Ok(record)
}

/// Makes this the history of an app.
fn set_images(tx: &Transaction<'_>, app: &str, images: &[String]) -> JobResult<()> {
    tx.execute("DELETE FROM images WHERE app = ?", [app])?;
    for image in images {
        tx.execute("INSERT INTO images (app, image) VALUES (?, ?)", [app, image])?;
    }
    Ok(())
}

impl Store {
    /// The moves that have begun and not ended, by app.
    pub(crate) async fn moves(&self) -> Result<Vec<MoveRecord>> {
        self.read(|connection| {
            let sql = format!("SELECT {COLUMNS} FROM app_moves ORDER BY app");
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map([], read)?;
            rows.map(|row| with_images(row?)).collect()
        })
        .await
    }

    /// The move of an app that has begun and not ended.
    pub(crate) async fn move_of(&self, app: &str) -> Result<Option<MoveRecord>> {
        let app = app.to_owned();
        self.read(move |connection| {
            let sql = format!("SELECT {COLUMNS} FROM app_moves WHERE app = ?");
            connection.query_row(&sql, [app], read).optional()?.map(with_images).transpose()
        })
        .await
    }

    /// Writes a move down, or how far it has come. It is on the disk when this returns.
    pub(crate) async fn put_move(&self, record: MoveRecord) -> Result<()> {
        self.write_durably(move |tx| {
            let MoveRecord { app, operation, to_pool, to_provisioner, deployed, images } = record;
            let images = to_json("list of images", &images)?;
            let sql = format!("INSERT OR REPLACE INTO app_moves ({COLUMNS}) VALUES (?,?,?,?,?,?)");
            tx.execute(&sql, params![app, operation, to_pool, to_provisioner, deployed, images])?;
            Ok(())
        })
        .await
    }

    /// Ends a move: with `moved` the app is where it was to go, and else where it was; its images are those of the record. It is on the disk when this returns.
    pub(crate) async fn end_move(&self, record: MoveRecord, moved: bool) -> Result<()> {
        self.write_durably(move |tx| {
            let MoveRecord { app, to_pool, to_provisioner, images, .. } = record;
            if moved {
                let sql = "UPDATE apps SET pool = ?, provisioner = ? WHERE name = ?";
                tx.execute(sql, [&to_pool, &to_provisioner, &app])?;
            }
            set_images(tx, &app, &images)?;
            tx.execute("DELETE FROM app_moves WHERE app = ?", [&app])?;
            Ok(())
        })
        .await
    }

    /// Writes down the pool of an app that stays with its provisioner.
    pub(crate) async fn set_pool(&self, app: &str, pool: &str) -> Result<()> {
        let (app, pool) = (app.to_owned(), pool.to_owned());
        self.write_durably(move |tx| {
            tx.execute("UPDATE apps SET pool = ? WHERE name = ?", [pool, app])?;
            Ok(())
        })
        .await
    }

    /// What was written down of an image, as it was told.
    pub(crate) async fn image_custom_data(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.read(move |connection| {
            let sql = "SELECT custom_data FROM image_metadata WHERE image = ?";
            Ok(connection.query_row(sql, [key], |row| row.get(0)).optional()?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use gantry_core::App;

    use super::*;
    use crate::store::AppRecord;

    #[tokio::test]
    async fn a_move_is_remembered_until_it_ends_either_way() {
        let (folder, store) = Store::fresh();
        let app = App { name: "web".into(), pool: "old".into(), ..App::default() };
        let record = AppRecord { app, provisioner: "docker".into(), ..AppRecord::default() };
        store.insert_app(record).await.unwrap();
        let images = vec!["i:1".to_owned(), "i:2".to_owned()];
        let begun = MoveRecord {
            app: "web".into(),
            operation: "01".into(),
            to_pool: "new".into(),
            to_provisioner: "kubernetes".into(),
            deployed: false,
            images: images.clone(),
        };
        store.put_move(begun.clone()).await.unwrap();
        store.append_image("web", "half-made:3").await.unwrap();
        std::mem::forget(store);
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.moves().await.unwrap(), std::slice::from_ref(&begun));
        store.end_move(begun.clone(), false).await.unwrap();
        assert_eq!(store.images("web").await.unwrap(), images);
        assert_eq!(store.app("web").await.unwrap().unwrap().app.pool, "old");
        assert_eq!(store.move_of("web").await.unwrap(), None);
        let begun = MoveRecord { deployed: true, images: vec!["i:2".into()], ..begun };
        store.put_move(begun.clone()).await.unwrap();
        store.end_move(begun, true).await.unwrap();
        let record = store.app("web").await.unwrap().unwrap();
        assert_eq!((&*record.app.pool, &*record.provisioner), ("new", "kubernetes"));
        assert_eq!(store.images("web").await.unwrap(), ["i:2"]);
        assert_eq!(store.moves().await.unwrap(), []);
    }
}
