//! The images of apps: names given, history, what is known of each.

use gantry_core::image::{ImageMetadata, LATEST};
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

    /// The images of an app that no other app has had.
    pub(crate) async fn images_of_one(&self, app: &str) -> Result<Vec<String>> {
        let app = app.to_owned();
        self.read(move |connection| {
            let sql = "SELECT image FROM images WHERE app = ?1 AND NOT EXISTS \
                       (SELECT 1 FROM images other WHERE other.image = images.image AND other.app <> ?1) \
                       ORDER BY position";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([app], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The images of a repository that apps have: each app, and the tag or digest; of one without either the tag that it means.
    pub(crate) async fn images_of_repository(
        &self,
        repository: &str,
    ) -> Result<Vec<(String, String)>> {
        let repository = repository.to_owned();
        self.read(move |connection| {
            // Ranges of the index by image: from the separator to the byte after it.
            let sql = "SELECT app, image FROM images WHERE image = ?1 \
                       OR (image >= ?1 || ':' AND image < ?1 || ';') \
                       OR (image >= ?1 || '@' AND image < ?1 || 'A')";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([&repository], |row| {
                let image: String = row.get(1)?;
                let version = image.get(repository.len().saturating_add(1)..).unwrap_or(LATEST);
                // Beside a digest a tag means nothing.
                let version = version.rsplit_once('@').map_or(version, |(_, digest)| digest);
                Ok((row.get(0)?, version.to_owned()))
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The apps of a provisioner with their images that are not among the newest `size` and that no other app has had, oldest first.
    pub(crate) async fn stale_images(
        &self,
        provisioner: &str,
        size: usize,
    ) -> Result<Vec<(String, String)>> {
        let provisioner = provisioner.to_owned();
        self.read(move |connection| {
            let sql = "SELECT app, image FROM \
                       (SELECT app, image, position, \
                        row_number() OVER (PARTITION BY app ORDER BY position DESC) AS age \
                        FROM images WHERE app IN \
                        (SELECT app FROM images JOIN apps ON apps.name = app \
                         WHERE provisioner = ?1 GROUP BY app HAVING count(*) > ?2)) old \
                       WHERE age > ?2 AND NOT EXISTS \
                       (SELECT 1 FROM images other WHERE other.image = old.image AND other.app <> old.app) \
                       ORDER BY app, position";
            let mut statement = connection.prepare_cached(sql)?;
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            let rows = statement
                .query_map(params![provisioner, size], |row| Ok((row.get(0)?, row.get(1)?)))?;
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
    use gantry_core::App;

    use super::*;
    use crate::store::AppRecord;

    #[tokio::test]
    async fn an_image_that_comes_again_moves_to_the_end() {
        let (_folder, store) = Store::fresh();
        for image in ["a:1", "a:2", "a:1"] {
            store.append_image("a", image).await.unwrap();
        }
        assert_eq!(store.images("a").await.unwrap(), ["a:2", "a:1"]);
    }

    async fn with_apps(apps: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
        let (folder, store) = Store::fresh();
        for (name, provisioner) in apps {
            let app = App { name: (*name).to_owned(), ..App::default() };
            let record =
                AppRecord { app, provisioner: (*provisioner).to_owned(), ..AppRecord::default() };
            assert!(store.insert_app(record).await.unwrap());
        }
        (folder, store)
    }

    #[tokio::test]
    async fn what_another_app_has_had_is_neither_stale_nor_of_one_app() {
        let apps = [("web", "docker"), ("api", "docker"), ("far", "kubernetes")];
        let (_folder, store) = with_apps(&apps).await;
        for image in ["w:1", "w:2", "w:3", "w:4"] {
            store.append_image("web", image).await.unwrap();
        }
        store.append_image("api", "w:2").await.unwrap();
        store.append_image("far", "f:1").await.unwrap();
        store.append_image("far", "w:3").await.unwrap();
        let web = |images: &[&str]| -> Vec<(String, String)> {
            images.iter().map(|image| ("web".to_owned(), (*image).to_owned())).collect()
        };
        assert_eq!(store.stale_images("docker", 3).await.unwrap(), web(&["w:1"]));
        assert_eq!(store.stale_images("docker", 1).await.unwrap(), web(&["w:1"]));
        assert_eq!(store.stale_images("docker", 0).await.unwrap(), web(&["w:1", "w:4"]));
        assert_eq!(store.stale_images("docker", 4).await.unwrap(), []);
        let far = [("far".to_owned(), "f:1".to_owned())];
        assert_eq!(store.stale_images("kubernetes", 1).await.unwrap(), far);
        assert_eq!(store.images_of_one("web").await.unwrap(), ["w:1", "w:4"]);
    }

    #[tokio::test]
    async fn the_images_of_a_repository_are_those_of_all_apps() {
        let (_folder, store) = Store::fresh();
        for (app, image) in [
            ("web", "r:5/a/app-web:v1"),
            ("web", "r:5/a/app-web:v2"),
            ("web", "r:5/a/app-web2:v4"),
            ("api", "r:5/a/app-web:v2"),
            ("api", "r:5/a/app-web:v3"),
            ("api", "a/app-web:v5"),
            ("api", "r:5/a/app-web"),
            ("own", "r:5/a/app-web@sha256:12"),
            ("own", "r:5/a/app-web:v9@sha256:34"),
            ("own", "r:5/a/app-web/more:v6"),
        ] {
            store.append_image(app, image).await.unwrap();
        }
        let mut images = store.images_of_repository("r:5/a/app-web").await.unwrap();
        images.sort();
        let expected = [
            ("api", "latest"),
            ("api", "v2"),
            ("api", "v3"),
            ("own", "sha256:12"),
            ("own", "sha256:34"),
            ("web", "v1"),
            ("web", "v2"),
        ];
        assert_eq!(images, expected.map(|(app, version)| (app.to_owned(), version.to_owned())));
        // No letter of it means anything else than itself.
        assert_eq!(store.images_of_repository("r:5/a/app_web").await.unwrap(), []);
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
