//! `[backup]`: its defaults, and every wrong value.

use std::time::Duration;

use mcp_failover::policy::compile;
use mcp_failover::policy::diagnostic::Diagnostic;
use mcp_failover::policy::diff::PolicyDiff;
use mcp_failover::policy::model::{Backup, BackupPlace, Bucket, Policy};

use super::given::{Given, compiled, source};

fn text(table: &str) -> String {
    format!(
        r#"version = 1
[sidecar]
state_dir = "/var/lib/state"
[services.search]
[[services.search.endpoints]]
name = "a"
url  = "https://a.example.com"
[[services.search.endpoints]]
name = "b"
url  = "https://b.example.com"
[[outputs]]
type = "env_file"
path = "/run/mcp/failover.env"
{table}"#
    )
}

fn keys() -> Given {
    Given::default()
        .with_var("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .with_var("AWS_SECRET_ACCESS_KEY", "canary-of-the-key")
        .with_var("AWS_SESSION_TOKEN", "canary-of-the-token")
}

fn policy(table: &str, given: &Given) -> Policy {
    compiled(&text(table), given).policy
}

fn backup(table: &str, given: &Given) -> Backup {
    let policy = policy(table, given);
    (**policy.backup.as_ref().expect("a backup")).clone()
}

fn bucket(table: &str) -> Bucket {
    match backup(table, &keys()).to {
        BackupPlace::Bucket(bucket) => *bucket,
        BackupPlace::Directory(path) => panic!("{path:?}"),
    }
}

fn refused(text: &str, given: &Given) -> Vec<Diagnostic> {
    compile(&source(text), given).expect_err("it is wrong").0
}

#[test]
fn nothing_is_backed_up_unless_asked_for() {
    assert!(policy("", &keys()).backup.is_none());
}

#[test]
fn a_directory_needs_nothing_else() {
    for to in ["/mnt/other/disk", "file:///mnt/other/disk"] {
        let made = backup(&format!("[backup]\nto = \"{to}\""), &Given::default());
        assert_eq!(made.to, BackupPlace::Directory("/mnt/other/disk".into()));
        assert_eq!(made.interval, Duration::from_secs(900));
        assert_eq!(made.after_switch, Duration::from_secs(10));
        assert_eq!((made.keep, made.recover), (24, false));
        assert_eq!(made.recover_timeout, Duration::from_secs(5));
    }
}

#[test]
fn a_bucket_takes_what_every_client_takes() {
    let plain = bucket("[backup]\nto = \"s3://backups/fleet/web/\"");
    assert_eq!((plain.name.as_str(), plain.prefix.as_str()), ("backups", "fleet/web/"));
    assert_eq!(plain.endpoint, "https://s3.us-east-1.amazonaws.com");
    assert!(!plain.path_style);
    assert_eq!(plain.access_key.expose(), "AKIDEXAMPLE");
    assert_eq!(plain.session_token.expect("a token").expose(), "canary-of-the-token");
    let dotted = bucket("[backup]\nto = \"s3://back.ups\"");
    assert!(dotted.path_style && dotted.prefix.is_empty(), "{dotted:?}");
    let given = bucket(
        "[backup]\nto = \"s3://backups\"\nregion = \"eu-central-1\"\n\
         endpoint = \"https://minio.example.com:9000/\"\n\
         credentials = { access_key = \"other\", secret_key = \"${AWS_SECRET_ACCESS_KEY}\" }",
    );
    assert_eq!(given.endpoint, "https://minio.example.com:9000");
    assert_eq!((given.region.as_str(), given.path_style), ("eu-central-1", true));
    assert!(given.session_token.is_none(), "a token belongs to the key it came with");
    let regional = Given::default().with_var("AWS_REGION", "eu-west-1");
    let regional =
        regional.with_var("AWS_ACCESS_KEY_ID", "a").with_var("AWS_SECRET_ACCESS_KEY", "b");
    let made = backup("[backup]\nto = \"s3://backups\"", &regional);
    assert_eq!(made.to.to_string(), "s3://backups/");
    let BackupPlace::Bucket(bucket) = made.to else { panic!("{:?}", made.to) };
    assert_eq!(bucket.endpoint, "https://s3.eu-west-1.amazonaws.com");
}

#[test]
fn every_wrong_value_has_a_place_and_a_code() {
    let place = "[backup]\nto = ";
    for (table, code) in [
        ("[backup]\n", "MF0202"),
        ("[backup]\nto = 5", "MF0203"),
        ("[backup]\nto = \"\"", "MF0408"),
        ("[backup]\nto = \"ftp://example.com/x\"", "MF0802"),
        ("[backup]\nto = \"s3:/backups/x\"", "MF0802"),
        ("[backup]\nto = \"S3://backups/x\"", "MF0802"),
        ("[backup]\nto = \"/var/lib/state/backups\"", "MF0802"),
        ("[backup]\nto = \"s3://UPPER/x\"", "MF0802"),
        ("[backup]\nto = \"s3://ab\"", "MF0802"),
        ("[backup]\nto = \"s3://backups/../x\"", "MF0802"),
        ("[backup]\nto = \"s3://backups/a b\"", "MF0802"),
        ("[backup]\nto = \"s3://backups/a//b\"", "MF0802"),
        ("[backup]\nto = \"/b\"\nregion = \"x\"", "MF0209"),
        ("[backup]\nto = \"/b\"\ncredentials = {}", "MF0209"),
        ("[backup]\nto = \"/b\"\nkeep = 1", "MF0205"),
        ("[backup]\nto = \"/b\"\ninterval = \"0s\"", "MF0208"),
        ("[backup]\nto = \"/b\"\ninterval = 5", "MF0206"),
        ("[backup]\nto = \"/b\"\nafter_switch = \"soon\"", "MF0207"),
        ("[backup]\nto = \"/b\"\nrecover_timeout = \"31s\"", "MF0205"),
        ("[backup]\nto = \"/b\"\nrecover = \"yes\"", "MF0203"),
        ("[backup]\nto = \"/b\"\nintervall = \"5s\"", "MF0201"),
        ("[backup]\nto = \"s3://backups\"\nregion = \"a b\"", "MF0802"),
        ("[backup]\nto = \"s3://backups\"\nendpoint = \"minio:9000\"", "MF0401"),
        ("[backup]\nto = \"s3://backups\"\nendpoint = \"redis://example.com\"", "MF0415"),
        ("[backup]\nto = \"s3://backups\"\nendpoint = \"https://a:b@example.com\"", "MF0415"),
        ("[backup]\nto = \"s3://backups\"\ncredentials = { secret_key = \"\" }", "MF0212"),
        ("[backup]\nto = \"s3://backups\"\ncredentials = { key = \"a\" }", "MF0201"),
        ("[backup]\nto = \"s3://backups\"\ncredentials = { secret_key = \"${NOT}\" }", "MF0301"),
        ("[backup]\nto = \"s3://backups\"\nca_file = \"/no/such/file\"", "MF0304"),
    ] {
        let found = refused(&text(table), &keys());
        let hit = found.iter().find(|one: &&Diagnostic| one.code.as_str() == code);
        let hit = hit.unwrap_or_else(|| panic!("{table}: {code} is not in {found:#?}"));
        let whole = table == "[backup]\n";
        assert!(whole || hit.labels.first().is_some_and(|l| l.line >= 14), "{table}: {hit:?}");
    }
    let unset = refused(&text(&format!("{place}\"s3://backups\"")), &Given::default());
    assert!(unset.iter().all(|one| one.code.as_str() == "MF0301"), "{unset:#?}");
    assert_eq!(unset.len(), 2, "the id and the key: {unset:#?}");
}

#[test]
fn another_key_is_another_policy_and_no_key_is_shown() {
    let table = "[backup]\nto = \"s3://backups\"";
    let (one, other) = (policy(table, &keys()), keys().with_var("AWS_SECRET_ACCESS_KEY", "other"));
    let other = policy(table, &other);
    assert_ne!(one.digest, other.digest);
    let diff = PolicyDiff::between(&one, &other);
    assert_eq!(diff.summary(), ["backups changed"]);
    assert!(!format!("{one:?}").contains("canary"), "{one:?}");
}
