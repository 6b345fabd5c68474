use super::*;

fn load(text: &str, environment: &Environment) -> Result<Config, ConfigError> {
    load_with(text, &Overrides::default(), environment)
}

fn load_with(
    text: &str,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let path = Path::new("gantry.toml");
    resolve(raw::parse(path, text)?, path, overrides, environment)
}

fn home() -> Environment {
    Environment::of([("HOME", "/home/ann")])
}

fn told(error: &ConfigError) -> String {
    format!("{error}\nhint: {}", error.hint().unwrap_or_default())
}

/// A certificate, as PEM.
fn certificate() -> String {
    rcgen::generate_simple_self_signed(["r.example".to_owned()]).unwrap().cert.pem()
}

/// The sample with every key switched on.
fn everything() -> String {
    SAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_sample_is_the_default() {
    let sample = load(SAMPLE, &home()).unwrap();
    let nothing = load("", &home()).unwrap();
    assert_eq!(format!("{sample:?}"), format!("{nothing:?}"));
}

#[test]
fn the_sample_shows_every_key_and_each_is_read() {
    fn paths(value: &toml::Value, path: String, found: &mut Vec<String>) {
        found.push(path.clone());
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    paths(value, format!("{path}.{key}"), found);
                }
            }
            toml::Value::Array(items) => {
                for item in items {
                    if item.is_table() {
                        paths(item, path.clone(), found);
                    }
                }
            }
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => {}
        }
    }
    let text = everything();
    let table: toml::Table = text.parse().unwrap();
    let mut found = Vec::new();
    for (key, value) in &table {
        paths(value, key.clone(), &mut found);
    }
    for key in keys::all(keys::KEYS, "") {
        let shown = found.iter().any(|path| {
            let (path, key): (Vec<_>, Vec<_>) =
                (path.split('.').collect(), key.split('.').collect());
            path.len() == key.len()
                && path.iter().zip(&key).all(|(path, key)| *key == "*" || path == key)
        });
        assert!(shown, "the sample does not show `{key}`");
    }
    let environment = Environment::of([("HOME", "/home/ann"), ("GANTRY_TOKEN", "t")]);
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let authority = folder.path().join("ca.crt");
    std::fs::write(&authority, certificate()).unwrap();
    let text = text
        .replace("token-file", "#")
        .replace("/etc/gantry/registry-password", &password.to_string_lossy())
        .replace("/etc/gantry/registry-ca.crt", &authority.to_string_lossy());
    let config = load(&text, &environment).unwrap();
    let limits = &config.provisioner("docker").limits;
    for bound in Bound::ALL {
        assert!(text.contains(&format!("{bound} = ")), "the sample does not show `{bound}`");
        assert_eq!(limits.get(bound), bound.default_value(), "{bound}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let cases = [
        ("dta = 1", "unknown key `dta` in `gantry.toml`\nhint: did you mean `data`?"),
        (
            "[http]\nsokcet = 1",
            "unknown key `http.sokcet` in `gantry.toml`\nhint: did you mean `http.socket`?",
        ),
        (
            "[provisioners.docker]\ngrant = []",
            "unknown key `provisioners.docker.grant` in `gantry.toml`\nhint: did you mean `provisioners.docker.grants`?",
        ),
        (
            "[provisioners.docker.limits]\nmemroy = 1",
            "unknown key `provisioners.docker.limits.memroy` in `gantry.toml`\nhint: did you mean `provisioners.docker.limits.memory`?",
        ),
        (
            "[[docker.hosts]]\naddress = \"x\"\nzebra = 1",
            "unknown key `docker.hosts.zebra` in `gantry.toml`\nhint: `gantry serve --print-config` prints every key",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(&load(text, &home()).unwrap_err()), expected);
    }
}

#[test]
fn a_wrong_value_is_refused_by_key() {
    let cases = [
        (
            "operations.grace = \"soon\"",
            "`operations.grace` in `gantry.toml` cannot be `soon`: not a time like `30s`, `5m` or `1h 30m`",
        ),
        (
            "provisioners.docker.limits.memory = \"lots\"",
            "`provisioners.docker.limits.memory` in `gantry.toml` cannot be `lots`: bound `memory`: cannot read `lots`, write it like `256MiB`",
        ),
        (
            "provisioners.docker.limits.handles = 0",
            "`provisioners.docker.limits.handles` in `gantry.toml` cannot be `0`: bound `handles`: `0` is not between 1 and 1073741824",
        ),
        (
            "provisioners.docker.grants = [\"root\"]",
            "`provisioners.docker.grants` in `gantry.toml` cannot be `root`: no grant `root`",
        ),
        (
            "default-pool = \"prod\"\n[pools.dev]",
            "`default-pool` in `gantry.toml` cannot be `prod`: no such pool; there is `dev`",
        ),
        (
            "default-router = \"edge\"\n[routers.front]",
            "`default-router` in `gantry.toml` cannot be `edge`: no such router; there is `front`",
        ),
        (
            "routers.front.type = \"galeb\"",
            "`routers.front.type` in `gantry.toml` cannot be `galeb`: no such kind of router; there is `table`",
        ),
        (
            "routers.front.domain = \"https://x\"",
            "`routers.front.domain` in `gantry.toml` cannot be `https://x`: it is no domain",
        ),
        (
            "docker.registries = [{ address = \"https://r.example\", user = \"u\", password-file = \"p\" }]",
            "`docker.registries.address` in `gantry.toml` cannot be `https://r.example`: not like `registry.example.com:5000`, as it stands in front of the names of its images",
        ),
        (
            "docker.registries = [{ address = \"r.example\", user = \"ann\" }]",
            "`docker.registries.user` in `gantry.toml` cannot be `ann`: a user and the file with his password are both there, or neither is",
        ),
        (
            "[routers.\"a,b\"]",
            "`routers.a,b` in `gantry.toml` cannot be `a,b`: not 1 to 63 lower case letters, digits and dashes",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(load(text, &home()).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_value_of_the_wrong_type_tells_its_line() {
    let error = load("[http]\nlisten = \"somewhere\"", &home()).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
}

#[test]
fn tcp_needs_a_token() {
    let listen = "http.listen = \"127.0.0.1:0\"";
    let error = load(listen, &home()).unwrap_err();
    assert_eq!(error.to_string(), "refusing to listen on `127.0.0.1:0` without a token");
    let environment = Environment::of([("HOME", "/home/ann"), ("GANTRY_TOKEN", " secret\n")]);
    let config = load(listen, &environment).unwrap();
    assert_eq!(config.listen.unwrap().1.reveal(), "secret");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "\n").unwrap();
    let empty = format!("{listen}\nhttp.token-file = {file:?}");
    assert!(matches!(load(&empty, &environment), Err(ConfigError::NoToken(_))), "an empty file");
}

#[test]
fn places_follow_the_environment() {
    let config = load("", &home()).unwrap();
    assert_eq!(config.data, Path::new("/home/ann/.local/share/gantry"));
    assert_eq!(config.socket, Path::new("/home/ann/.local/share/gantry/gantry.sock"));
    let environment = Environment::of([
        ("HOME", "/root"),
        ("XDG_RUNTIME_DIR", "/run/user/0"),
        ("DOCKER_HOST", "tcp://10.0.0.1:2376"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", "/certs"),
    ]);
    let config = load("", &environment).unwrap();
    assert_eq!(config.data, Path::new("/root/.local/share/gantry"), "a home is no user");
    let config = load("", &environment.as_root()).unwrap();
    assert_eq!(config.data, Path::new("/var/lib/gantry"));
    assert_eq!(config.socket, Path::new("/run/user/0/gantry.sock"));
    let host = DockerHost { address: "tcp://10.0.0.1:2376".into(), tls: Some("/certs".into()) };
    assert_eq!(config.docker_hosts, [host]);
}

#[test]
fn docker_hosts_of_the_environment_are_read_as_everywhere() {
    let hosts = |host, verify, certificates| {
        let environment = Environment::of([
            ("HOME", "/home/ann"),
            ("DOCKER_HOST", host),
            ("DOCKER_TLS_VERIFY", verify),
            ("DOCKER_CERT_PATH", certificates),
        ]);
        load("", &environment).map(|config| config.docker_hosts)
    };
    let host = |address: &str, tls: &str| {
        let tls = (!tls.is_empty()).then(|| tls.into());
        vec![DockerHost { address: address.into(), tls }]
    };
    let socket = "unix:///var/run/docker.sock";
    for (address, verify, certificates, expected) in [
        ("", "", "", host(socket, "")),
        ("tcp://h:1", "", "", host("tcp://h:1", "")),
        ("tcp://h:1", "1", "", host("tcp://h:1", "/home/ann/.docker")),
        ("tcp://h:1", "", "/certs", host("tcp://h:1", "/certs")),
    ] {
        assert_eq!(hosts(address, verify, certificates).unwrap(), expected);
    }
    let error = hosts("nonsense://h", "", "").unwrap_err();
    assert!(matches!(error, ConfigError::DockerHost(_)), "{error:?}");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let overrides = Overrides { data: Some("/elsewhere".into()), ..Overrides::default() };
    let config = load_with("data = \"/here\"", &overrides, &home()).unwrap();
    assert_eq!(config.data, Path::new("/elsewhere"));
}

#[test]
fn an_app_that_names_no_router_gets_the_default_one_if_there_is_one() {
    for (text, expected) in [
        ("", Some("default")),
        ("[routers.edge]", Some("edge")),
        ("[routers.edge]\n[routers.default]", Some("default")),
        ("[routers.edge]\n[routers.front]", None),
        ("default-router = \"front\"\n[routers.edge]\n[routers.front]", Some("front")),
        ("default-router = \"\"", None),
    ] {
        let config = load(text, &home()).unwrap();
        assert_eq!(config.default_router.as_deref(), expected, "{text}");
    }
}

#[test]
fn a_provisioner_is_told_the_types_of_routers_unless_it_is_told_others() {
    let text = "[routers.front]\n[routers.edge]\n\
                [provisioners.docker.config.routers.edge]\ntype = \"galeb\"\n";
    let config = load(text, &home()).unwrap();
    let table = serde_json::json!({"type": "table"});
    let told = serde_json::json!({"routers": {"edge": {"type": "galeb"}, "front": table}});
    assert_eq!(config.provisioner("docker").config, told);
    let told = serde_json::json!({"routers": {"edge": table, "front": table}});
    assert_eq!(config.provisioner("acme").config, told);
}

#[test]
fn a_token_is_never_shown() {
    assert_eq!(format!("{:?}", Token::new("secret")), "Some(Token(…))");
}

#[test]
fn the_password_of_a_registry_is_in_a_file_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let text = format!(
        "docker.registries = [{{ address = \"r.example:5000\", user = \"ann\", password-file = {file:?} }}]"
    );
    assert!(matches!(load(&text, &home()), Err(ConfigError::Read { .. })), "there is no file");
    std::fs::write(&file, "open sesame\n").unwrap();
    let config = load(&text, &home()).unwrap();
    assert_eq!(config.auth(), Auth::none().with("r.example:5000", "ann", "open sesame"));
    let account = config.account("r.example:5000", &());
    assert_eq!((account.user.as_str(), account.password.as_str()), ("ann", "open sesame"));
    assert_eq!(account.authority, "");
    let nobody = config.account("other.example", &());
    assert_eq!((nobody.registry.as_str(), nobody.user.as_str()), ("other.example", ""));
    // A provisioner may have words of its own, which count where the daemon has none.
    let settings = serde_json::json!({"docker": {
        "registry-auth": {"username": "kate", "password": "mellon"}, "registry-ca": "PEM",
    }});
    assert_eq!(config.account("r.example:5000", &settings).user, "ann");
    let own = config.account("other.example", &settings);
    let own = [own.registry, own.user, own.password, own.authority];
    assert_eq!(own, ["other.example", "kate", "mellon", "PEM"]);
    let shown = format!("{config:?}");
    assert!(shown.contains("r.example:5000") && !shown.contains("sesame"), "{shown}");
}

#[test]
fn who_vouches_for_a_registry_is_in_a_file_with_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (password, file) = (folder.path().join("password"), folder.path().join("ca.crt"));
    std::fs::write(&password, "open sesame").unwrap();
    let text = format!(
        "docker.registries = [{{ address = \"r.example\", user = \"ann\", password-file = {password:?}, ca = {file:?} }}]"
    );
    assert!(matches!(load(&text, &home()), Err(ConfigError::Read { .. })), "there is no file");
    for odd in
        ["", "\n", "no certificate", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"]
    {
        std::fs::write(&file, odd).unwrap();
        let error = load(&text, &home()).unwrap_err().to_string();
        assert!(error.starts_with("`docker.registries.ca` in `gantry.toml` cannot be "), "{error}");
    }
    let certificate = certificate();
    std::fs::write(&file, &certificate).unwrap();
    let config = load(&text, &home()).unwrap();
    assert_eq!(config.account("r.example", &()).authority, certificate);
    // A registry that asks nobody who he is may have one too, and no engine is told of it.
    let text = format!("docker.registries = [{{ address = \"r.example\", ca = {file:?} }}]");
    let config = load(&text, &home()).unwrap();
    let account = config.account("r.example", &());
    assert_eq!((account.user.as_str(), account.authority), ("", certificate));
    assert_eq!(config.auth(), Auth::none());
}
