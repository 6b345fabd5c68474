//! The image of the fixture: no registry is needed, it is built around a static busybox.

use std::io::Cursor;
use std::path::Path;

use gantry_engine::call::BuildOptions;
use gantry_engine::contract::PAGE;
use gantry_engine::{Containers as _, Docker};
use tar::{Builder, EntryType, Header};
use tokio::sync::OnceCell;

const NAME: &str = "gantry-engine/fixture:v2";
/// The shell handles SIGTERM: as process 1 it would not die of it otherwise, and every stop would take its whole time.
const DOCKERFILE: &str = r#"FROM scratch
COPY rootfs /
ENV PATH=/bin
EXPOSE 8888
CMD ["/bin/sh", "-c", "trap 'exit 0' TERM; echo ready; httpd -f -p 8888 -h /www & wait"]
"#;
const APPLETS: [&str; 12] =
    ["cat", "echo", "false", "head", "httpd", "id", "kill", "pwd", "sh", "sleep", "stty", "tr"];

/// The image's name, once it is there.
pub(crate) async fn ready(engine: &Docker) -> &'static str {
    static READY: OnceCell<()> = OnceCell::const_new();
    READY.get_or_init(|| build(engine)).await;
    NAME
}

async fn build(engine: &Docker) {
    let busybox = Path::new("/bin/busybox");
    let busybox = std::fs::read(busybox).expect("the package busybox-static is installed");
    let mut context = Builder::new(Vec::new());
    let mut file = |path: &str, mode, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        context.append_data(&mut header, path, bytes).unwrap();
    };
    file("Dockerfile", 0o644, DOCKERFILE.as_bytes());
    file("rootfs/bin/busybox", 0o755, &busybox);
    file("rootfs/www/index.html", 0o644, PAGE.as_bytes());
    for applet in APPLETS.into_iter().chain(["true", "wc"]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        context.append_link(&mut header, format!("rootfs/bin/{applet}"), "busybox").unwrap();
    }
    let context = Box::pin(Cursor::new(context.into_inner().unwrap()));
    let options = BuildOptions { name: NAME.to_owned(), cache: true, ..BuildOptions::default() };
    let output = Box::pin(tokio::io::sink());
    engine.build_image(&options, context, output).await.expect("the fixture's image is built");
}
