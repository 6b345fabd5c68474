//! docs/reference.md says of every name of the reference's package where it lives here, and which test shows it. This holds it to that.
//!
//! A name is a rule when it lives in gantry-core, which has no I/O: a unit test or a vector may show it. Everywhere else, in the contract and in the host, it is
//! behaviour, and only a test that goes through a compiled plugin or a host function shows it.

mod behaviour;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use gantry_tests::artifacts::top;
use wit_parser::{Resolve, TypeDefKind};

/// Where rules live.
const RULES: &str = "host/gantry-core/";

/// Where everything else lives.
const PLACES: [&str; 3] = ["wit/", "host/gantry-runtime/src/", "host/gantry/src/"];

/// The tests that go through a compiled plugin or a host function.
const BEHAVIOUR: [&str; 3] = ["tests/it/", "host/gantry-runtime/tests/it/", "host/gantry/tests/"];

/// What the types are called whose methods are never rules.
const ABILITIES: [&str; 5] = ["Client", "Deploy", "Deployer", "Limiter", "Provisioner"];

/// What is still to come.
const LATER: &str = "MongodbLimiter";

/// A name, and what is said of it.
#[derive(Clone, Copy)]
struct Row<'a> {
    name: &'a str,
    here: &'a str,
    test: &'a str,
}

impl Row<'_> {
    fn is_rule(&self) -> bool {
        self.here.starts_with(RULES)
    }

    fn is_later(&self) -> bool {
        self.here == "later"
    }
}

/// The rows of the page's tables. The head of a table names nothing in code.
fn rows(page: &str) -> Vec<Row<'_>> {
    page.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(|cell| cell.trim().trim_matches('`'));
            let mut next = || cells.next().unwrap_or_default();
            Row { name: next(), here: next(), test: next() }
        })
        .collect()
}

/// Everything that the WIT package declares, as the page spells it.
fn contract() -> Result<BTreeSet<String>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(top().join("wit"))?;
    let mut items = BTreeSet::new();
    for (interface, id) in &resolve.packages[package].interfaces {
        let mut declare = |item: &str| items.insert(format!("wit/{interface}.wit#{item}"));
        declare(interface);
        for function in resolve.interfaces[*id].functions.keys() {
            // `[method]client.open` is declared as `open` in `client`.
            declare(function.rsplit(']').next().unwrap_or(function));
        }
        for (name, id) in &resolve.interfaces[*id].types {
            let parts: Vec<&str> = match &resolve.types[*id].kind {
                TypeDefKind::Record(of) => of.fields.iter().map(|it| it.name.as_str()).collect(),
                TypeDefKind::Variant(of) => of.cases.iter().map(|it| it.name.as_str()).collect(),
                TypeDefKind::Enum(of) => of.cases.iter().map(|it| it.name.as_str()).collect(),
                TypeDefKind::Resource => Vec::new(),
                // Another interface's.
                _ => continue,
            };
            declare(name);
            for part in parts {
                declare(&format!("{name}.{part}"));
            }
        }
    }
    Ok(items)
}

/// The word that a text begins with.
fn word(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default()
}

/// A line without what says who may see it.
fn unseen(line: &str) -> &str {
    let line = line.trim_start();
    match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or(line, |(_, rest)| rest),
        Some(rest) if rest.starts_with(' ') => rest.trim_start(),
        _ => line,
    }
}

/// The kind and the name of what a line declares.
fn declared(line: &str) -> Option<(&str, &str)> {
    let (mut line, mut found) = (unseen(line), None);
    while let Some((keyword, rest)) = line.split_once(' ') {
        let is_one = ["async", "const", "enum", "fn", "struct", "trait", "type"].contains(&keyword);
        if !is_one {
            break;
        }
        (line, found) = (rest, Some((keyword, word(rest))));
    }
    found
}

/// Whether a file declares `item`, or `Type::item` of one of its types.
fn declares(text: &str, item: &str) -> bool {
    let mut parts = item.split("::");
    let owner = parts.next().unwrap_or_default();
    let parts: Vec<&str> = parts.collect();
    if parts.is_empty() {
        return text.lines().any(|line| declared(line).is_some_and(|(_, name)| name == owner));
    }
    let is_one = |part: &str, is_data, line| match is_data {
        true => unseen(line)
            .strip_prefix(part)
            .is_some_and(|rest| rest.trim_start().starts_with([':', ',', '(', '{'])),
        false => declared(line).is_some_and(|(_, name)| name == part),
    };
    parts.iter().all(|part| blocks(text, owner).any(|(is_data, line)| is_one(part, is_data, line)))
}

/// The lines of what a file says of a type, and whether they are of its data: rustfmt begins and ends a block in the first column.
fn blocks<'a>(text: &'a str, owner: &'a str) -> impl Iterator<Item = (bool, &'a str)> {
    let mut inside = None;
    text.lines().filter_map(move |line| {
        if line.starts_with('}') {
            inside = None;
        } else if !line.starts_with([' ', '/', '#']) && line.ends_with('{') {
            let is_impl = line.starts_with("impl");
            let mentions = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let is_its = match declared(line) {
                Some((_, name)) => name == owner,
                None => is_impl && mentions.into_iter().any(|mentioned| mentioned == owner),
            };
            inside = is_its.then(|| declared(line).is_some_and(|(kind, _)| kind != "trait"));
            return None;
        }
        inside.map(|is_data| (is_data, line))
    })
}

/// Whether a file has a test of this name that is run.
fn tests(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().collect();
    let is_its = |line: &&str| declared(line).is_some_and(|found| found == ("fn", name));
    let Some(at) = lines.iter().position(is_its) else { return false };
    let above = lines.iter().take(at).rev().map(|line| line.trim());
    let attributes: Vec<&str> = above.take_while(|line| line.starts_with("#[")).collect();
    let is_test = |line: &&str| *line == "#[test]" || line.starts_with("#[tokio::test");
    attributes.iter().any(is_test) && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

/// The files that may have the `mod` line of a file, and the line; none when it is a target of its own.
fn linked_by(file: &str) -> Option<(Vec<String>, String)> {
    let (folder, name) = file.rsplit_once('/')?;
    let stem = name.strip_suffix(".rs")?;
    if folder.ends_with("/tests") || ["main", "lib"].contains(&stem) {
        return None;
    }
    let files = [format!("{folder}.rs"), format!("{folder}/main.rs"), format!("{folder}/lib.rs")];
    Some((files.into(), format!("mod {stem};")))
}

/// The tree, as far as the page speaks of it.
struct Tree {
    contract: BTreeSet<String>,
}

impl Tree {
    fn read(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(top().join(file)).ok()
    }

    /// What is wrong with a row.
    fn fault(&self, row: Row<'_>) -> Option<String> {
        let Row { name, here, test } = row;
        let owner = name.split('.').next().unwrap_or_default();
        if row.is_later() {
            return (owner != LATER).then(|| format!("only `{LATER}` is for later"));
        }
        if let Some(why) = self.misplaced(here) {
            return Some(why);
        }
        if row.is_rule() && ABILITIES.iter().any(|ability| owner.ends_with(ability)) {
            return Some(format!("it is an ability, and `{here}` is only a rule"));
        }
        let Some((file, function)) = test.split_once('#') else {
            return Some("no test is named".to_owned());
        };
        let through = BEHAVIOUR.iter().any(|place| file.starts_with(place));
        if !through && !row.is_rule() {
            return Some(format!("it is behaviour, and `{file}` goes through no plugin"));
        }
        if !through && !file.starts_with(RULES) {
            return Some(format!("`{file}` is no place for tests of rules"));
        }
        let Some(text) = self.read(file) else { return Some(format!("there is no `{file}`")) };
        if !tests(&text, function) {
            return Some(format!("`{file}` has no test `{function}`"));
        }
        let (files, line) = linked_by(file)?;
        let linked = files.iter().filter_map(|file| self.read(file));
        let is_linked = linked.into_iter().any(|text| text.contains(&line));
        (!is_linked).then(|| format!("nobody runs `{file}`"))
    }

    /// Why something does not live where the page says.
    fn misplaced(&self, here: &str) -> Option<String> {
        let Some((file, item)) = here.split_once('#') else {
            return Some("no place is named".to_owned());
        };
        if !file.starts_with(RULES) && !PLACES.iter().any(|place| file.starts_with(place)) {
            return Some(format!("`{file}` is no place for it"));
        }
        let Some(text) = self.read(file) else { return Some(format!("there is no `{file}`")) };
        let is_there = match file.starts_with("wit/") {
            true => self.contract.contains(here),
            false => declares(&text, item),
        };
        (!is_there).then(|| format!("`{file}` does not declare `{item}`"))
    }

    /// What is wrong with a page.
    fn faults(&self, names: &str, page: &str) -> Vec<String> {
        let mut count: BTreeMap<&str, usize> = names.lines().map(|name| (name, 0)).collect();
        let mut faults = Vec::new();
        for row in rows(page) {
            match count.get_mut(row.name) {
                Some(count) => *count += 1,
                None => faults.push(format!("`{}` is no name of the reference", row.name)),
            }
            faults.extend(self.fault(row).map(|why| format!("`{}`: {why}", row.name)));
        }
        let wrong = count.into_iter().filter(|(_, count)| *count != 1);
        faults.extend(wrong.map(|(name, count)| format!("`{name}` has {count} rows")));
        faults
    }
}

/// The names, the page, and the tree.
fn all() -> Result<(String, String, Tree)> {
    let names = std::fs::read_to_string(top().join("tests/names.txt"))?;
    let page = std::fs::read_to_string(top().join("docs/reference.md"))?;
    Ok((names, page, Tree { contract: contract()? }))
}

#[test]
fn every_name_of_the_reference_has_its_place_and_its_test() -> Result<()> {
    let (names, page, tree) = all()?;
    assert_eq!(names.lines().count(), 300);
    let faults = tree.faults(&names, &page);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let rows = rows(&page);
    let rules = rows.iter().filter(|row| row.is_rule()).count();
    let later = rows.iter().filter(|row| row.is_later()).count();
    let behaviour = rows.len() - rules - later;
    println!(
        "reference: {} names, {behaviour} are behaviour, {rules} rules, {later} for later",
        rows.len()
    );
    Ok(())
}

/// The page with another row in the place of a name's.
fn with_row(page: &str, name: &str, row: &str) -> Result<String> {
    let start = format!("| `{name}` |");
    let old = page.lines().find(|line| line.starts_with(&start)).context("it has a row")?;
    Ok(page.replacen(old, row, 1))
}

#[test]
fn a_page_that_is_wrong_is_told_with_what_is_wrong() -> Result<()> {
    let (names, page, tree) = all()?;
    let (pool, rule) = ("wit/nodes.wit#node.pool", "host/gantry-core/src/status.rs#Status");
    let nodes = "tests/it/docker_plugin/nodes.rs";
    let test = format!("{nodes}#units_are_spread_anew_once_it_is_worth_it");
    let unit = "host/gantry-core/src/status.rs#the_flow_is_the_documented_one";
    let row = |name: &str, here: &str, test: &str| format!("| `{name}` | `{here}` | `{test}` |");
    let of = |here: &str, test: &str| row("Node.Pool", here, test);
    let good = of(pool, &test);
    let cases = [
        (String::new(), "`Node.Pool` has 0 rows".to_owned()),
        (format!("{good}\n{good}"), "`Node.Pool` has 2 rows".to_owned()),
        (
            format!("{good}\n{}", row("Node.Colour", pool, &test)),
            "`Node.Colour` is no name of the reference".to_owned(),
        ),
        (of("", &test), "`Node.Pool`: no place is named".to_owned()),
        (of("later", ""), "`Node.Pool`: only `MongodbLimiter` is for later".to_owned()),
        (
            of("wit/pools.wit#node.pool", &test),
            "`Node.Pool`: there is no `wit/pools.wit`".to_owned(),
        ),
        (
            of("wit/nodes.wit#unit.pool", &test),
            "`Node.Pool`: `wit/nodes.wit` does not declare `unit.pool`".to_owned(),
        ),
        (
            of("host/gantry-core/src/status.rs#Status::Gone", unit),
            "`Node.Pool`: `host/gantry-core/src/status.rs` does not declare `Status::Gone`"
                .to_owned(),
        ),
        (
            of("plugins/docker/src/nodes.rs#get", &test),
            "`Node.Pool`: `plugins/docker/src/nodes.rs` is no place for it".to_owned(),
        ),
        (of(pool, ""), "`Node.Pool`: no test is named".to_owned()),
        (
            of(pool, "tests/it/nodes.rs#a_node"),
            "`Node.Pool`: there is no `tests/it/nodes.rs`".to_owned(),
        ),
        (
            of(pool, &format!("{nodes}#question")),
            format!("`Node.Pool`: `{nodes}` has no test `question`"),
        ),
        (
            of(pool, unit),
            "`Node.Pool`: it is behaviour, and `host/gantry-core/src/status.rs` goes through no plugin"
                .to_owned(),
        ),
        (
            of(rule, "plugins/docker/src/check.rs#a_hook_that_fails_is_named"),
            "`Node.Pool`: `plugins/docker/src/check.rs` is no place for tests of rules".to_owned(),
        ),
    ];
    for (row, fault) in cases {
        assert_eq!(tree.faults(&names, &with_row(&page, "Node.Pool", &row)?), [fault]);
    }
    let sleep = row("SleepableProvisioner.Sleep", rule, unit);
    let fault =
        format!("`SleepableProvisioner.Sleep`: it is an ability, and `{rule}` is only a rule");
    let faults = tree.faults(&names, &with_row(&page, "SleepableProvisioner.Sleep", &sleep)?);
    assert_eq!(faults, [fault]);
    Ok(())
}

#[test]
fn a_declaration_is_told_from_a_mention() {
    let text = "\
/// Told.
pub struct Told {
    pub what: String,
}

impl Told {
    pub(crate) const fn say(&self) -> Self {
        Self { what: self.what.clone() }
    }
}

pub enum Way {
    Up,
    Down(u8),
}

impl From<Way> for Told {
    fn from(way: Way) -> Self {
        say(way)
    }
}
";
    for item in ["Told", "say", "Told::what", "Told::say", "Told::from", "Way::Up", "Way::Down"] {
        assert!(declares(text, item), "{item}");
    }
    for item in ["way", "Told::Up", "Way::what", "Told::whatever", "Self", "Way::Told", "clone"] {
        assert!(!declares(text, item), "{item}");
    }
    let text = "#[test]\nfn one() {}\n\nfn two() {}\n\n#[test]\n#[ignore]\nfn three() {}\n\n#[tokio::test(x)]\nasync fn four()\n";
    let run = ["one", "two", "three", "four", "five"].map(|name| tests(text, name));
    assert_eq!(run, [true, false, false, true, false]);
}
