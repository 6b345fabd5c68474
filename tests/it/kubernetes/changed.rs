//! What somebody else does to the objects of an app.

use anyhow::{Result, ensure};
use gantry_tests::daemon::eventually;

use super::{Kube, SOON, told};

#[test]
fn a_field_that_somebody_else_took_is_told_with_its_manager_and_not_taken_back() -> Result<()> {
    let kube = Kube::shared("")?;
    let images = ["one", "two"]
        .map(|tag| kube.cluster.image(&format!("gantry-test/kube-taken:{tag}"), tag, ""));
    let [one, two] = images;
    let (one, two) = (one?, two?);
    kube.app("taken", &one.name, 1)?;
    let kubectl = |words: &[&str]| kube.cluster.ask(words);
    let deploy = || kube.daemon.cli(&["app", "deploy", "taken", "--image", &two.name]);
    let what = "could not deploy `taken`";

    kubectl(&["scale", "deployment/taken-web", "--replicas=2"])?;
    eventually(
        SOON,
        "there are two units",
        || Ok((kube.units("taken")?.len() == 2).then_some(())),
    )?;
    told(deploy()?, 5, what, &["`.spec.replicas`", "`kubectl`"])?;
    let replicas = ["get", "deployment", "taken-web", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(kubectl(&replicas)?, "2", "nothing was forced");
    kube.until_answers("taken", "one")?;
    // What agrees with ours is in nobody's way.
    kubectl(&["scale", "deployment/taken-web", "--replicas=1"])?;

    kubectl(&[
        "set",
        "image",
        "deployment/taken-web",
        &format!("taken-web={}", two.name),
        "--field-manager=somebody",
    ])?;
    let restart = kube.daemon.cli(&["app", "restart", "taken"])?;
    told(restart, 5, "could not restart the units of `taken`", &["image`", "`somebody`"])?;
    // What was meant here too is no conflict.
    deploy()?.success()?;
    kube.until_answers("taken", "two")?;
    // A field that is none of ours stays.
    kubectl(&["set", "env", "deployment/taken-web", "THEIRS=1"])?;
    kube.done(&["app", "restart", "taken"])?;
    let theirs = kube.done(&["app", "run", "taken", "--once", "--", "sh", "-c", "echo $THEIRS"])?;
    assert_eq!(theirs, "1\n");
    kube.done(&["app", "remove", "taken", "-y"])?;
    Ok(())
}

#[test]
fn what_somebody_deleted_is_told_and_made_again_by_the_next_change() -> Result<()> {
    let kube = Kube::shared("")?;
    let image = kube.cluster.image("gantry-test/kube-deleted:v1", "one", "")?;
    kube.app("deleted", &image.name, 2)?;
    let delete = |what: &str| kube.cluster.ask(&["delete", what, "--wait=true"]);
    let deploy = || kube.done(&["app", "deploy", "deleted", "--image", &image.name]);

    delete("deployment/deleted-web")?;
    eventually(SOON, "no unit is told", || Ok(kube.units("deleted")?.is_empty().then_some(())))?;
    let run = kube.daemon.cli(&["app", "run", "deleted", "--", "true"])?;
    let text = told(run, 4, "could not run a command in `deleted`", &["no units"])?;
    ensure!(text.contains("gantry app deploy"), "{text}");
    deploy()?;
    kube.until_answers("deleted", "one")?;
    assert_eq!(kube.units("deleted")?.len(), 1, "nobody knows any more that there were two");

    for what in ["service/deleted-web", "service/deleted-web-units", "serviceaccount/app-deleted"] {
        delete(what)?;
    }
    ensure!(kube.addresses("deleted")?.is_empty(), "it is reached nowhere");
    kube.done(&["unit", "add", "deleted", "1"])?;
    kube.until_answers("deleted", "one")?;
    assert_eq!(kube.units("deleted")?.len(), 2);
    for (kind, count) in [("services", 2), ("serviceaccounts", 1)] {
        assert_eq!(kube.objects("deleted", kind)?.len(), count, "{kind}");
    }

    // One unit is the controller's to replace.
    let before = kube.units("deleted")?;
    let pod = before.first().map(|(unit, _)| format!("pod/{unit}")).unwrap_or_default();
    delete(&pod)?;
    eventually(SOON, "another one is there", || {
        let now = kube.units("deleted")?;
        let run = now.iter().filter(|(_, status)| status == "started").count();
        Ok((run == 2 && now != before).then_some(()))
    })?;
    delete("deployment/deleted-web")?;
    kube.done(&["app", "remove", "deleted", "-y"])?;
    Ok(())
}
