//! Backups in a bucket: against a real server, and against servers that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use mcp_failover::policy::model::{BackupPlace, Bucket};
use mcp_failover::policy::secret::Secret;
use mcp_failover::store::backup::{BackupError, LIMIT, Made, Name, Vault, make, newest_good, read};

use super::NOW;
use super::backup::{backup, block_on, now, policy};
use crate::common::s3::{ACCESS, BUCKET, S3Server, SECRET};
use crate::common::tls::Authority;
use crate::common::upstream::{Behaviour, Upstream};

const PREFIX: &str = "fleet/web/";

fn bucket(endpoint: &str) -> Bucket {
    Bucket {
        name: BUCKET.to_owned(),
        prefix: PREFIX.to_owned(),
        endpoint: endpoint.to_owned(),
        region: "eu-central-1".to_owned(),
        path_style: true,
        access_key: Secret::from(ACCESS),
        secret_key: Secret::from(SECRET),
        session_token: None,
        ca: None,
    }
}

fn vault(bucket: Bucket) -> Vault {
    Vault::new(&policy(BackupPlace::Bucket(Box::new(bucket))), now()).expect("a client")
}

fn name(n: u64) -> Name {
    Name { stamp_ms: NOW + n, revision: 42, facts: 7 }
}

/// The file in which the server keeps an object of ours.
fn object(server: &S3Server, name: &str) -> PathBuf {
    server.objects().join(PREFIX).join(name)
}

/// Insists on an error that says so, and that it holds no key and no signature.
#[track_caller]
fn refused<T: std::fmt::Debug>(ended: Result<T, BackupError>, words: &[&str]) -> BackupError {
    let error = ended.expect_err("it cannot work");
    let said = format!("{} ({error:?}) {}", error.explain(), error.help());
    for word in words {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    for secret in [ACCESS, SECRET, "X-Amz", "Signature="] {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
    error
}

#[test]
fn a_real_server_takes_keeps_lists_and_removes_backups() {
    let Some(server) = S3Server::start() else { return };
    let vault = vault(bucket(&server.url()));
    assert!(block_on(vault.list()).expect("an empty list").is_empty());
    let mut made = Vec::new();
    for n in 0..5 {
        let backup = backup(n, &format!("endpoint-{n}"));
        let round = block_on(make(&vault, backup, 3, NOW + n)).expect("stored");
        assert_eq!(round.made, Made::Stored);
        assert!(round.left.is_none(), "{:?}", round.left);
        made.push(round.name);
    }
    let same = block_on(make(&vault, backup(9, "endpoint-4"), 3, NOW + 9)).expect("looked at");
    assert_eq!((same.made, same.name), (Made::Unchanged, made[4]));
    let listed = block_on(vault.list()).expect("a list");
    let names: Vec<_> = listed.iter().map(|one| one.name).collect();
    assert_eq!(names, [made[4], made[3], made[2]]);
    let file = object(&server, &made[4].to_string());
    assert_eq!(listed[0].bytes, fs::metadata(file).expect("an object").len());
    let back = block_on(read(&vault, made[4])).expect("good");
    assert_eq!(back, backup(4, "endpoint-4"));
    let absent = refused(block_on(vault.get(name(1))), &["it is not there"]);
    assert!(matches!(absent, BackupError::Missing { .. }));
}

#[test]
fn an_object_is_never_replaced_and_those_of_others_are_left_alone() {
    let Some(server) = S3Server::start() else { return };
    let vault = vault(bucket(&server.url()));
    let first = Bytes::from_static(b"first");
    block_on(vault.put(name(1), first.clone(), NOW)).expect("stored");
    let second = block_on(vault.put(name(1), Bytes::from_static(b"second"), NOW));
    assert!(matches!(refused(second, &["it exists"]), BackupError::Exists { .. }));
    assert_eq!(block_on(vault.get(name(1))).expect("there"), first);
    let deeper = format!("mcp-failover-deeper/{}", name(2));
    for other in ["mcp-failover-notes.txt", "latest", &deeper] {
        let file = object(&server, other);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, "theirs").expect("an object");
    }
    let made = block_on(make(&vault, backup(1, "a"), 1, NOW + 5)).expect("stored");
    let names: Vec<_> =
        block_on(vault.list()).expect("a list").into_iter().map(|b| b.name).collect();
    assert_eq!(names, [made.name]);
    assert!(object(&server, "latest").exists() && object(&server, &deeper).exists());
}

#[test]
fn a_wrong_key_and_a_missing_bucket_are_told_apart() {
    let Some(server) = S3Server::start() else { return };
    let wrong = Bucket { secret_key: Secret::from("another"), ..bucket(&server.url()) };
    let wrong = vault(wrong);
    refused(block_on(wrong.list()), &["403", "SignatureDoesNotMatch", "check the secret key"]);
    refused(block_on(wrong.put(name(1), Bytes::new(), NOW)), &["403"]);
    let unknown = Bucket { access_key: Secret::from("AKIDOTHER"), ..bucket(&server.url()) };
    refused(block_on(vault(unknown).list()), &["list s3://backups/fleet/web/"]);
    let missing = Bucket { name: "elsewhere".to_owned(), ..bucket(&server.url()) };
    refused(block_on(vault(missing).list()), &["404", "NoSuchBucket", "create the bucket"]);
    assert!(!server.objects().join(PREFIX).exists(), "nothing was stored");
}

#[test]
fn a_damaged_object_is_passed_over_for_the_next_older_one() {
    let Some(server) = S3Server::start() else { return };
    let vault = vault(bucket(&server.url()));
    let mut made = Vec::new();
    for n in 0..3 {
        let backup = backup(n, &format!("endpoint-{n}"));
        made.push(block_on(make(&vault, backup, 9, NOW + n)).expect("stored").name);
    }
    let newest = object(&server, &made[2].to_string());
    let whole = fs::read(&newest).expect("an object");
    fs::write(&newest, &whole[..whole.len() - 9]).expect("cut");
    let second = object(&server, &made[1].to_string());
    let mut bytes = fs::read(&second).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&second, bytes).expect("flipped");
    let mut passed = Vec::new();
    let mut note = |name, _: &BackupError| passed.push(name);
    let found = block_on(newest_good(&vault, &mut note)).expect("reached").expect("one is good");
    assert_eq!((found.name, passed), (made[0], vec![made[2], made[1]]));
}

/// Passes so many bytes of the first request on to a server, then cuts the connection; later ones
/// are passed on whole.
fn cut_after(server: u16, bytes: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut upstream = TcpStream::connect(("127.0.0.1", server)).expect("the server");
        let mut part = vec![0; bytes];
        client.read_exact(&mut part).expect("so many bytes");
        upstream.write_all(&part).expect("passed on");
        // The server hears of the end when both are gone.
        upstream.shutdown(Shutdown::Both).expect("cut");
        client.shutdown(Shutdown::Both).ok();
    });
    port
}

#[test]
fn a_connection_that_breaks_in_the_middle_of_a_put_leaves_no_half_backup() {
    let Some(server) = S3Server::start() else { return };
    let straight = vault(bucket(&server.url()));
    let bytes = Bytes::from(vec![b'x'; 300_000]);
    for (n, cut) in (1..).zip([1, 900, 5_000, 150_000, 290_000]) {
        let port = cut_after(server.port(), cut);
        let broken = vault(bucket(&format!("http://127.0.0.1:{port}")));
        refused(block_on(broken.put(name(n), bytes.clone(), NOW)), &["reach"]);
    }
    for listed in block_on(straight.list()).expect("a list") {
        assert_eq!(listed.bytes, 300_000, "half an object under {}", listed.name);
    }
    let made = block_on(make(&straight, backup(1, "a"), 3, NOW + 400_000)).expect("stored");
    assert_eq!(made.made, Made::Stored, "the next attempt is not disturbed");
}

/// What every call comes to when the server does this.
fn against(behaviour: Behaviour, words: &[&str]) {
    let upstream = Upstream::start(behaviour);
    let vault = vault(bucket(&upstream.url()));
    refused(in_time(vault.list()), words);
    refused(in_time(vault.get(name(1))), words);
    refused(in_time(vault.put(name(1), Bytes::from_static(b"x"), NOW)), words);
}

fn in_time<T>(call: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(10);
    block_on(async { tokio::time::timeout(limit, call).await }).expect("an end in time")
}

#[test]
fn refusals_and_faults_of_a_server_are_told_in_its_words() {
    let xml = |code: &str| format!("<Error><Code>{code}</Code><Key>{SECRET}</Key></Error>");
    let answer = |status, code: &str| Behaviour::Answer(status, Vec::new(), xml(code));
    against(answer(403, "AccessDenied"), &["HTTP 403 AccessDenied", "let the key list"]);
    against(answer(500, "InternalError"), &["HTTP 500 InternalError", "problem of its own"]);
    against(answer(503, "SlowDown"), &["HTTP 503 SlowDown"]);
    against(Behaviour::Status(500), &["HTTP 500"]);
    against(Behaviour::redirect("http://127.0.0.1:9/"), &["HTTP 302", "backup.region"]);
    against(Behaviour::garbage(), &["reach s3://backups/"]);
    against(Behaviour::Refuse, &["reach s3://backups/"]);
}

#[test]
fn half_an_answer_is_none() {
    let upstream = Upstream::start(Behaviour::Reset);
    let vault = vault(bucket(&upstream.url()));
    refused(in_time(vault.list()), &["reach s3://backups/"]);
    refused(in_time(vault.get(name(1))), &["reach s3://backups/"]);
    // That it is stored is believed when it has been read back, and not before.
    in_time(make(&vault, backup(1, "a"), 3, NOW)).expect_err("not stored");
}

#[test]
fn a_clock_that_is_wrong_is_named_as_the_cause() {
    let date = vec![("date".to_owned(), "Sun, 23 Nov 1997 12:13:20 GMT".to_owned())];
    let body = "<Error><Code>RequestTimeTooSkewed</Code></Error>".to_owned();
    against(
        Behaviour::Answer(403, date, body),
        &["RequestTimeTooSkewed", "our clock is", "ahead of the server's", "set the clock"],
    );
}

#[test]
fn no_answer_takes_more_time_or_memory_than_it_may() {
    for behaviour in [Behaviour::Hang, Behaviour::Drip(Duration::from_millis(50))] {
        let upstream = Upstream::start(behaviour);
        let vault = vault(bucket(&upstream.url()));
        let ended = block_on(async {
            tokio::time::timeout(Duration::from_millis(300), vault.list()).await
        });
        assert!(ended.is_err(), "it is the caller who ends it");
    }
    let huge = u64::try_from(LIMIT).expect("a size") * 4;
    for behaviour in [Behaviour::Flood, Behaviour::Huge(huge)] {
        let upstream = Upstream::start(behaviour);
        let vault = vault(bucket(&upstream.url()));
        refused(block_on(vault.list()), &["too large"]);
        refused(block_on(vault.get(name(1))), &["too large"]);
    }
    against_list("<ListBucketResult", "cannot be read");
    let token = "<IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>again</NextContinuationToken>";
    let xmlns = "http://s3.amazonaws.com/doc/2006-03-01/";
    let endless = format!("<ListBucketResult xmlns=\"{xmlns}\">{token}</ListBucketResult>");
    against_list(&endless, "has no end");
}

fn against_list(body: &str, word: &str) {
    let upstream = Upstream::start(Behaviour::Answer(200, Vec::new(), body.to_owned()));
    refused(block_on(vault(bucket(&upstream.url())).list()), &[word]);
}

#[test]
fn a_private_authority_is_trusted_where_it_is_named_and_nowhere_else() {
    let authority = Authority::new();
    let list = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>";
    let upstream = Upstream::start_tls(
        Behaviour::Answer(200, Vec::new(), list.to_owned()),
        authority.issue("localhost").server(),
    );
    let plain = bucket(&upstream.url());
    let trusting = Bucket { ca: Some(authority.pem().into()), ..plain.clone() };
    assert!(block_on(vault(trusting).list()).expect("an empty list").is_empty());
    refused(block_on(vault(plain).list()), &["reach", "certificate"]);
}

#[test]
fn no_secret_is_in_an_object_or_its_path() {
    fn scan(folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("a folder").path();
            assert!(!path.to_string_lossy().contains(SECRET));
            if path.is_dir() {
                scan(&path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(SECRET) && !text.contains(ACCESS), "{}", path.display());
            }
        }
    }
    let Some(server) = S3Server::start() else { return };
    let vault = vault(bucket(&server.url()));
    block_on(make(&vault, backup(1, "a"), 3, NOW)).expect("stored");
    scan(&server.objects());
}
