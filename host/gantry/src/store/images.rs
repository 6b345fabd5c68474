//! The images of apps: names given, history, what is known of each.

use gantry_core::image::ImageMetadata;
use rusqlite::{OptionalExtension, params};

use super::{Result, Store, check_kept, from_json, to_json};

/// How many images of an app are remembered.
const HISTORY: u32 = 1_000;

impl Store {
    /// The number of the next image of an app; no number is given twice while the app exists.
    pub(crate) async fn next_image_number(&self, app: &str) -> Result<u64> {
        let app = app.to_owned();
        let sql = "INSERT INTO image_counters (app, count) VALUES (?, 1) \
                   ON CONFLICT (app) DO UPDATE SET count = count + 1 RETURNING count";
        self.write_durably(move |tx| Ok(tx.query_row(sql, [app], |row| row.get(0))?)).await
    }

    /// How many image names were reserved for an app.
    pub(crate) async fn image_count(&self, app: &str) -> Result<u64> {
        let app = app.to_owned();
        let sql = "SELECT count FROM image_counters WHERE app = ?";
        self.read(move |connection| {
            Ok(connection.query_row(sql, [app], |row| row.get(0)).optional()?.unwrap_or(0))
        })
        .await
    }

    /// Makes an image the newest of an app. The oldest are forgotten when there are very many.
    pub(crate) async fn append_image(&self, app: &str, image: &str) -> Result<()> {
        let (app, image) = (app.to_owned(), image.to_owned());
        self.write(move |tx| {
            tx.execute("DELETE FROM images WHERE app = ? AND image = ?", [&app, &image])?;
            tx.execute("INSERT INTO images (app, image) VALUES (?, ?)", [&app, &image])?;
            let sql = "DELETE FROM images WHERE app = ?1 AND position <= \
                       (SELECT position FROM images WHERE app = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)";
            tx.execute(sql, params![app, HISTORY])?;
            Ok(())
        })
        .await
    }

    /// The images of an app, oldest first.
    pub(crate) async fn images(&self, app: &str) -> Result<Vec<String>> {
        let app = app.to_owned();
        self.read(move |connection| {
            let sql = "SELECT image FROM images WHERE app = ? ORDER BY position";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([app], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// What is known of an image.
    pub(crate) async fn image_metadata(&self, image: &str) -> Result<Option<ImageMetadata>> {
        let image = image.to_owned();
        self.read(move |connection| {
            let sql = "SELECT metadata FROM image_metadata WHERE image = ?";
            let text: Option<String> =
                connection.query_row(sql, [image], |row| row.get(0)).optional()?;
            text.map(|text| from_json("image metadata", &text)).transpose()
        })
        .await
    }

    /// Writes down what a provisioner knows of an image; false when something else was written down before. Fails when the provisioner keeps as much as it may.
    pub(crate) async fn save_image_metadata(
        &self,
        owner: &str,
        image: &str,
        custom_data: String,
        metadata: ImageMetadata,
    ) -> Result<bool> {
        let (owner, image) = (owner.to_owned(), image.to_owned());
        let most = self.owner_bytes;
        self.write(move |tx| {
            let before: Option<String> = tx
                .query_row(
                    "SELECT custom_data FROM image_metadata WHERE image = ?",
                    [&image],
                    |row| row.get(0),
                )
                .optional()?;
            if let Some(before) = before {
                return Ok(before == custom_data);
            }
            let metadata = to_json("image metadata", &metadata)?;
            let sql =
                "INSERT INTO image_metadata (image, custom_data, metadata, owner) VALUES (?,?,?,?)";
            tx.execute(sql, params![image, custom_data, metadata, owner])?;
            check_kept(tx, &owner, most)?;
            Ok(true)
        })
        .await
    }

    /// Forgets an image of an app, and what is written of it under `key`. Forgetting an unknown one succeeds.
    pub(crate) async fn forget_image(&self, app: &str, image: &str, key: &str) -> Result<()> {
        let (app, image, key) = (app.to_owned(), image.to_owned(), key.to_owned());
        self.write(move |tx| {
            tx.execute("DELETE FROM images WHERE app = ? AND image = ?", [&app, &image])?;
            // Another app of the provisioner may run the same image.
            tx.execute(
                "DELETE FROM image_metadata WHERE image = ?1 AND NOT EXISTS \
                 (SELECT 1 FROM images JOIN apps ON apps.name = images.app WHERE images.image = ?2 \
                  AND apps.provisioner = (SELECT provisioner FROM apps WHERE name = ?3))",
                [&key, &image, &app],
            )?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_image_that_comes_again_moves_to_the_end() {
        let (_folder, store) = Store::fresh();
        for image in ["a:1", "a:2", "a:1"] {
            store.append_image("a", image).await.unwrap();
        }
        assert_eq!(store.images("a").await.unwrap(), ["a:2", "a:1"]);
    }

    #[tokio::test]
    async fn a_number_is_never_given_twice() {
        let (_folder, store) = Store::fresh();
        assert_eq!(store.image_count("a").await.unwrap(), 0);
        for expected in 1..4 {
            assert_eq!(store.next_image_number("a").await.unwrap(), expected);
        }
        assert_eq!(store.next_image_number("b").await.unwrap(), 1);
        assert_eq!(store.image_count("a").await.unwrap(), 3);
    }

    #[tokio::test]
    async fn the_same_metadata_again_succeeds_and_other_metadata_does_not() {
        let (_folder, store) = Store::fresh();
        let save =
            |data: &str| store.save_image_metadata("o", "i", data.into(), ImageMetadata::default());
        assert!(save("{}").await.unwrap());
        assert!(save("{}").await.unwrap());
        assert!(!save(r#"{"x":1}"#).await.unwrap());
    }

    #[tokio::test]
    async fn a_history_keeps_the_newest() {
        let (_folder, store) = Store::fresh();
        for number in 0..=HISTORY {
            store.append_image("a", &format!("a:{number}")).await.unwrap();
        }
        let images = store.images("a").await.unwrap();
        assert_eq!((images.len(), images.first().map(String::as_str)), (1_000, Some("a:1")));
    }
}
