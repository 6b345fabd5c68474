use super::*;
use crate::api::ProblemKind;

/// What the program says about itself, as wide as a usual terminal.
fn help(words: &[&str]) -> String {
    let mut command = Cli::command().term_width(90);
    command.build();
    let mut found = &mut command;
    for word in words {
        found = found.find_subcommand_mut(word).expect("there is such a command");
    }
    found.render_long_help().to_string()
}

fn usage_error(words: &[&str]) -> String {
    let words = std::iter::once("gantry").chain(words.iter().copied());
    Cli::try_parse_from(words).expect_err("it is wrong").to_string()
}

fn parses(words: &[&str]) -> Cli {
    let words = std::iter::once("gantry").chain(words.iter().copied());
    Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn help_says_where_to_start() {
    insta::assert_snapshot!(help(&[]), @r"
    Run apps through sandboxed provisioners

    `gantry serve` is the daemon; every other command asks it.

    Usage: gantry [OPTIONS] <COMMAND>

    Commands:
      serve        Serve: run the daemon until it is told to end
      app          Create, deploy, run, move and remove apps
      unit         List, add, remove and kill the units of an app
      env          Show and change the environment of an app
      service      Add services, bind apps to them, and remove them
      plan         Create, look at and remove plans: what units of apps may use
      volume       Create volumes, give them to apps, and remove them
      router       Look at routers: through what apps are reached
      pool         Create, list and remove pools: where apps live
      cluster      Add, look at, change and remove clusters
      node         Look after the machines of pools, and what runs on every one
      plugin       Install, look into and swap plugins
      operation    List, follow and cancel operations: every change is one
      completions  Print completions for a shell
      exit-codes   List the exit codes
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    For every command:
          --host <URL>
              Where the daemon is: `unix:///path` or `http://host:port` [default: its own
              default socket]
              
              [env: GANTRY_HOST]

          --token <TOKEN>
              The token, for a daemon on TCP
              
              [env: GANTRY_TOKEN]

          --output <FORMAT>
              How to show what was asked for

              Possible values:
              - table: For people
              - json:  For programs
              
              [default: table]

      -q, --quiet
              Show only what was asked for, warnings and errors

    Start here:
      gantry serve &
      gantry plugin install docker docker.wasm
      gantry app create web
      gantry app deploy web --image IMAGE

    `gantry help exit-codes` lists the exit codes.
    ");
}

#[test]
fn help_of_deploy_has_examples() {
    insta::assert_snapshot!(help(&["app", "deploy"]), @r"
    Deploy an image, or what is built of a directory or an archive, as the app's new version

    New units are started and checked before an old one is touched. When it fails, the old
    units serve on and nothing new is left. It goes on when this command is gone; Ctrl-C
    cancels it and waits for the undo.

    A directory (or a tar archive, plain or compressed with gzip, or `-` for one on standard
    input) is built on the image of the app's platform, or with `--dockerfile` as that says. A
    directory with a Dockerfile needs no option for that when the platform of the app is
    `static`. What `.dockerignore` lists stays out of the build of a Dockerfile, and what
    `.tsuruignore` lists out of every other.

    Usage: gantry app deploy [OPTIONS] [APP] [PATH]...

    Arguments:
      [APP] [PATH]...
              The app, unless `--app` names it, and what is built

    Options:
      -a, --app <APP>
              The app

      -i, --image <IMAGE>
              The image, in place of a path

          --dockerfile[=<FILE>]
              Build as this file of the source says [default: Dockerfile]

          --build-arg <KEY=VALUE>
              An argument of the Dockerfile, as often as needed

          --wait
              Wait for the operation that is changing the same thing, instead of failing

          --detach
              Print the operation's id and leave; `gantry operation info ID --follow` picks it
              up

          --idempotency-key <KEY>
              Do it once: a second request with the same key gives the operation of the first

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    For every command:
          --host <URL>
              Where the daemon is: `unix:///path` or `http://host:port` [default: its own
              default socket]
              
              [env: GANTRY_HOST]

          --token <TOKEN>
              The token, for a daemon on TCP
              
              [env: GANTRY_TOKEN]

          --output <FORMAT>
              How to show what was asked for

              Possible values:
              - table: For people
              - json:  For programs
              
              [default: table]

      -q, --quiet
              Show only what was asked for, warnings and errors

    Examples:
      gantry app deploy web --image registry.example/web:2
      gantry app deploy -a web -i web:2 --wait
      gantry app deploy web .
      gantry app deploy web . --dockerfile=docker/Dockerfile --build-arg VERSION=2
      git archive HEAD | gantry app deploy web -
      id=$(gantry app deploy web -i web:2 --detach) && gantry operation info $id --follow
    ");
}

#[test]
fn help_of_exit_codes_lists_them() {
    assert!(help(&["exit-codes"]).contains(exit::HELP));
}

#[test]
fn every_command_has_help_and_every_change_an_example() {
    fn walk(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        for below in command.get_subcommands().filter(|one| one.get_name() != "help") {
            let path = format!("{path} {}", below.get_name());
            if below.get_about().is_none() {
                missing.push(format!("{path}: no help"));
            }
            for argument in below.get_arguments() {
                if argument.get_help().is_none() && !argument.is_global_set() {
                    missing.push(format!("{path}: no help for {}", argument.get_id()));
                }
            }
            let about = below.get_about().map(ToString::to_string).unwrap_or_default();
            if about.ends_with('.') {
                missing.push(format!("{path}: the first line ends with a full stop"));
            }
            walk(below, &path, missing);
        }
    }
    let mut missing = Vec::new();
    walk(&Cli::command(), "gantry", &mut missing);
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn an_app_is_named_by_its_place_or_by_a_flag_and_not_by_both() {
    for words in [
        vec!["app", "deploy", "web", "--image", "i"],
        vec!["app", "deploy", "-a", "web", "-i", "i"],
        vec!["app", "run", "-a", "web", "--", "ls", "-l"],
        vec!["app", "run", "web", "--once", "--", "sh", "-c", "exit 3"],
        vec!["unit", "add", "2", "-a", "web"],
        vec!["unit", "list"],
        vec!["unit", "list", "-a", "web"],
        vec!["env", "set", "web", "A=b=c"],
        vec!["app", "shell", "web", "--unit", "3f2a"],
        vec!["app", "update", "-a", "web", "--pool", "prod"],
        vec!["app", "update", "web", "--plan", "small", "--memory", "1GiB"],
        vec!["app", "quota", "-a", "web", "--units", "unlimited"],
    ] {
        parses(&words);
    }
    assert!(usage_error(&["app", "info"]).starts_with("error:"));
    assert!(usage_error(&["app", "info", "web", "-a", "web"]).starts_with("error:"));
    assert!(usage_error(&["app", "run", "web"]).starts_with("error:"), "no command");
    assert!(usage_error(&["app", "run", "web", "-o", "-i", "--", "ls"]).starts_with("error:"));
}

#[test]
fn a_cluster_is_in_one_place_and_for_pools_or_for_all() {
    let add = ["cluster", "add", "north", "--provisioner", "kubernetes"];
    let words = |more: &[&'static str]| [&add, more].concat();
    for more in [
        ["--kubeconfig", "f", "--context", "c", "--default"].as_slice(),
        &["--address", "https://a", "--address", "https://b", "--pool", "p", "--pool", "q"],
        &["--in-cluster", "--default", "--namespace", "apps"],
        &["--address", "https://a", "--token-file", "t", "--ca-cert", "c", "--default"],
        &["--address", "https://a", "--client-cert", "c", "--client-key", "k", "--default"],
    ] {
        parses(&words(more));
    }
    for more in [
        ["--kubeconfig", "f", "--address", "https://a"].as_slice(),
        &["--kubeconfig", "f", "--token-file", "t"],
        &["--in-cluster", "--address", "https://a"],
        &["--context", "c"],
        &["--address", "https://a", "--pool", "p", "--default"],
        &["--address", "https://a", "--client-cert", "c"],
        &["--address", "https://a", "--client-cert", "c", "--client-key", "k", "--token-file", "t"],
    ] {
        assert!(usage_error(&words(more)).starts_with("error:"), "{more:?}");
    }
    assert!(usage_error(&["cluster", "add", "north", "--default"]).starts_with("error:"));
}

#[test]
fn pairs_have_a_key_and_may_have_no_value() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let read = pairs("metadata", &words(&["a=b=c", "d="])).unwrap();
    let read: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(read, [("a", "b=c"), ("d", "")]);
    for wrong in ["a", "=b", ""] {
        assert_eq!(pairs("metadata", &words(&[wrong])).unwrap_err().exit, Exit::Usage, "{wrong}");
    }
}

#[test]
fn what_may_be_missing_is_told_and_is_no_success() {
    let (mut ui, out, err) = ui::tests::door(Format::Table, false, ui::Terminal::default());
    assert_eq!(missing(&mut ui, &[]), Exit::Done);
    let problem = |kind, pool: &str| {
        Problem::new(kind, format!("could not list the units of the pool `{pool}`"))
            .because("nobody is there")
    };
    let problems =
        [problem(ProblemKind::Unavailable, "prod"), problem(ProblemKind::Forbidden, "dev")];
    assert_eq!(missing(&mut ui, &problems), Exit::Unreachable);
    assert_eq!(out.text(), "");
    insta::assert_snapshot!(err.text(), @r"
    warning: could not list the units of the pool `prod`: nobody is there
    warning: could not list the units of the pool `dev`: nobody is there
    ");
}

#[test]
fn the_help_of_a_volume_says_what_is_known_of_its_data_and_options() {
    let remove = help(&["volume", "remove"]);
    assert!(remove.contains("What becomes of its data is for its storage to say."), "{remove}");
    let create = help(&["volume", "create"]);
    assert!(create.contains("reads them when the first app gets the"), "{create}");
}

#[test]
fn words_after_a_flag_are_no_app() {
    let words = |flag: Option<&str>, words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        app_and_words(flag.map(str::to_owned), words)
    };
    assert_eq!(words(None, &["web", "2"]), Ok(("web".to_owned(), vec!["2".to_owned()])));
    assert_eq!(words(Some("web"), &["2"]), Ok(("web".to_owned(), vec!["2".to_owned()])));
    for none in [words(None, &[]), words(None, &["", "2"]), words(Some(""), &["2"])] {
        assert_eq!(none.unwrap_err().exit, Exit::Usage);
    }
}

#[test]
fn a_mistyped_command_gets_the_nearest_one() {
    insta::assert_snapshot!(usage_error(&["app", "depoy"]), @r"
    error: unrecognized subcommand 'depoy'

      tip: a similar subcommand exists: 'deploy'

    Usage: gantry app [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn a_host_that_cannot_be_is_refused() {
    insta::assert_snapshot!(usage_error(&["--host", "localhost", "app", "list"]), @r"
    error: invalid value 'localhost' for '--host <URL>': `localhost` is neither `unix:///path` nor `http://host:port`

    For more information, try '--help'.
    ");
}

#[test]
fn completions_know_every_group() {
    let mut text = Vec::new();
    clap_complete::generate(clap_complete::Shell::Bash, &mut Cli::command(), "gantry", &mut text);
    let text = String::from_utf8(text).expect("a script is text");
    for group in [
        "app",
        "unit",
        "env",
        "service",
        "plan",
        "volume",
        "router",
        "pool",
        "cluster",
        "node",
        "plugin",
        "operation",
        "serve",
    ] {
        assert!(
            text.contains(&format!("gantry__subcmd__{group}"))
                || text.contains(&format!("gantry__{group}")),
            "{group}"
        );
    }
}

/// A page of the documentation, which tells what the program does.
fn page(name: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
    std::fs::read_to_string(format!("{path}{name}")).expect("the page is there")
}

#[test]
fn the_documentation_lists_the_exit_codes_as_the_program_does() {
    assert!(page("cli.md").contains(exit::HELP));
}

#[test]
fn the_documentation_shows_the_configuration_as_the_program_does() {
    assert!(page("configuration.md").contains(crate::config::SAMPLE));
}

#[test]
fn the_documentation_names_every_verb() {
    fn verbs(command: &clap::Command) -> Vec<&clap::Command> {
        command.get_subcommands().filter(|verb| !verb.is_hide_set()).collect()
    }
    /// A group has a line with its verbs, at every level.
    fn walk(group: &clap::Command, path: &str, page: &str, missing: &mut Vec<String>) {
        let names: Vec<&str> = verbs(group).into_iter().map(clap::Command::get_name).collect();
        let line = format!("`{path} {}`", names.join("|"));
        if !names.is_empty() && !page.contains(&line) {
            missing.push(line);
        }
        for verb in verbs(group) {
            walk(verb, &format!("{path} {}", verb.get_name()), page, missing);
        }
    }
    let page = page("cli.md").replace('\\', "");
    let mut missing = Vec::new();
    for command in verbs(&Cli::command()) {
        let path = format!("gantry {}", command.get_name());
        walk(command, &path, &page, &mut missing);
        if !page.contains(&format!("`{path}")) {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "docs/cli.md does not have {missing:#?}");
}
