//! Files from templates, as their readers see them: formats, drift, checks and hooks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mcp_failover::core::action::MoveKind;
use mcp_failover::core::id::{EndpointName, Revision, ServiceName};
use mcp_failover::output::{ActiveConfig, ActiveService, Moved, OutputError, publish, render};
use mcp_failover::policy::model::{Content, File, FileCheck, Hook, HookRun, Quoting, Template};
use mcp_failover::policy::secret::Secret;

use super::readers::{self, python_path};
use super::{
    DEADLINE, ReportKind, Running, again, assert_passed, config, config_of, env_file, inner,
    inner_dir, leftovers, may_mount,
};
use crate::common;

const INI: &str = "[index]\nhost = {{ services.index.env.INDEX_HOST|ini }}\n\
                   key = {{ services.index.env.INDEX_KEY|ini }}\n";
const JSON: &str = "{\n  \"host\": {{ services.index.env.INDEX_HOST }},\n  \
                    \"key\": {{ services.index.env.INDEX_KEY }}\n}\n";

fn of(path: &Path, quoting: Quoting, text: &str) -> File {
    let template = Template { text: Secret::from(text), quoting };
    File { content: Content::Template(template), ..env_file(path) }
}

fn with_check(file: File, argv: &[&str], timeout: Duration) -> File {
    let argv = argv.iter().map(|&argument| argument.to_owned()).collect();
    File { check: Some(FileCheck { argv, timeout }), ..file }
}

fn with_hook(file: File, script: &str) -> File {
    let script = format!("cd \"$(dirname \"$MCP_FAILOVER_FILE\")\"; {script}");
    let run = HookRun::Command { argv: ["sh", "-euc", &script].map(str::to_owned).into() };
    File { on_change: vec![Hook { run, timeout: DEADLINE, debounce: Duration::ZERO }], ..file }
}

fn text(file: &File, config: &ActiveConfig) -> String {
    String::from_utf8(render(file, config, None).unwrap().to_vec()).unwrap()
}

/// Values that some format or reader stumbles over.
fn awkward() -> Vec<String> {
    let mut values: Vec<String> = [
        "plain",
        "",
        "a\"b",
        "a'b",
        "a\\b",
        "\\n",
        "${HOME}",
        "{{ x }}",
        "{% raw %}",
        "# no comment",
        "a: b",
        "- a",
        "null",
        "true",
        "007",
        "1e3",
        "@x",
        "%x",
        "&a *b !c",
        "a\tb",
        "a\nb\n",
        "\r",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{7f}",
        "\u{0}",
        "\u{1}",
        "ä€😀",
        " lead",
        "trail ",
    ]
    .map(str::to_owned)
    .into();
    values.push("x".repeat(5_000));
    values
}

fn awkward_config() -> ActiveConfig {
    let names: Vec<_> = (0..).map(|n| format!("V{n:02}")).zip(awkward()).collect();
    let env: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    config_of(1, "primary", &env)
}

/// What a reader in Python makes of a file: the values in the order of their names.
fn read_by(code: &str, path: &Path) -> Vec<String> {
    let code = format!("import sys, json\npath = sys.argv[1]\n{code}\nprint(json.dumps(values))");
    let finished = Command::new(python_path()).args(["-c", &code]).arg(path).output().unwrap();
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    serde_json::from_slice(&finished.stdout).unwrap()
}

fn assert_read_back(name: &str, quoting: Quoting, template: &str, code: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = of(&dir.path().join(name), quoting, template);
    publish(&file, &awkward_config()).unwrap();
    let values = read_by(code, &file.path);
    for (value, wanted) in values.iter().zip(awkward()) {
        assert_eq!(*value, wanted, "{name}");
    }
    assert_eq!(values.len(), awkward().len());
}

const MEMBERS: &str = "{% for key in services.index.env %}\n  \"{{ key|safe }}\": \
                       {{ services.index.env[key] }}{{ ',' if not loop.last else ''|safe }}\n{% endfor %}\n";

#[test]
fn json_is_read_back() {
    if !readers::has_python() {
        return;
    }
    let members = MEMBERS.replace("',' if", "','|safe if");
    let template = format!("{{\n{members}}}\n");
    let code = "values = list(json.load(open(path)).values())";
    assert_read_back("x.json", Quoting::Json, &template, code);
    assert_read_back("whole.json", Quoting::Json, "{{ services.index.env }}\n", code);
}

#[test]
fn toml_is_read_back() {
    if !readers::has_python() {
        return;
    }
    let template = "[env]\n{% for key in services.index.env %}\n{{ key|safe }} = \
                    {{ services.index.env[key] }}\n{% endfor %}\n";
    let code = "import tomllib\nvalues = list(tomllib.load(open(path, 'rb'))['env'].values())";
    assert_read_back("x.toml", Quoting::Toml, template, code);
}

#[test]
fn yaml_is_read_back() {
    let ready = Command::new(python_path()).args(["-c", "import yaml"]).output();
    if !ready.is_ok_and(|output| output.status.success()) {
        return common::skip("PyYAML is not installed");
    }
    let template = "env:\n{% for key in services.index.env %}\n  {{ key|safe }}: \
                    {{ services.index.env[key] }}\n{% endfor %}\n";
    let code =
        "import yaml\nvalues = list(yaml.safe_load(open(path, encoding='utf-8'))['env'].values())";
    assert_read_back("x.yaml", Quoting::Yaml, template, code);
    let whole = "env: {{ services.index.env }}\n";
    assert_read_back("whole.yaml", Quoting::Yaml, whole, code);
}

#[test]
fn a_shell_reads_back_what_the_filter_quotes() {
    let dir = tempfile::tempdir().unwrap();
    for value in awkward().iter().filter(|value| !value.contains('\0')) {
        let file = of(
            &dir.path().join("x.sh"),
            Quoting::Plain,
            "export V={{ services.index.env.V|shell }}\n",
        );
        publish(&file, &config_of(1, "primary", &[("V", value)])).unwrap();
        let script = ". \"$0\"; printf %s \"$V\"";
        let told = Command::new("sh").args(["-euc", script]).arg(&file.path).output().unwrap();
        assert_eq!(String::from_utf8(told.stdout).unwrap(), **value);
    }
}

#[test]
fn ini_is_read_back_or_refused() {
    if !readers::has_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let code = "import configparser\nparser = configparser.ConfigParser(interpolation=None)\n\
                parser.read_file(open(path, encoding='utf-8', newline='\\n'))\n\
                values = [parser['index']['host'], parser['index']['key']]";
    let (mut read, mut refused) = (0, 0);
    for value in awkward() {
        let file = of(&dir.path().join("x.ini"), Quoting::Plain, INI);
        let config = config_of(1, "primary", &[("INDEX_HOST", "h"), ("INDEX_KEY", &value)]);
        match publish(&file, &config) {
            Ok(_) => {
                assert_eq!(read_by(code, &file.path), ["h", &value]);
                read += 1;
            }
            Err(error) => {
                assert!(matches!(error, OutputError::Template { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 15 && refused > 5, "{read} {refused}");
}

#[test]
fn a_template_knows_the_move_and_the_address() {
    let template = "{{ revision }} {{ services.index.endpoint }} {{ services.index.url }} \
                    {{ services.index.from }} {{ services.index.kind }} {{ services.index.cause }}";
    let file = of(Path::new("x"), Quoting::Plain, template);
    let mut config = config(9, "backup");
    assert_eq!(text(&file, &config), "9 backup https://backup.example.com   ");
    let service = config.services.get_mut(&ServiceName::new("index")).unwrap();
    service.moved = Some(Moved {
        revision: Revision::new(9),
        from: Some(EndpointName::new("primary")),
        kind: MoveKind::Failover,
        cause: "3 failures in a row".into(),
    });
    let told = text(&file, &config);
    assert_eq!(told, "9 backup https://backup.example.com primary failover 3 failures in a row");
}

#[test]
fn a_service_without_an_endpoint_has_no_variables_and_the_old_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = of(&dir.path().join("x.ini"), Quoting::Plain, INI);
    publish(&file, &config(1, "primary")).unwrap();
    let before = std::fs::read(&file.path).unwrap();
    let services = [(ServiceName::new("index"), ActiveService::default())].into();
    let nobody = ActiveConfig { revision: Revision::new(2), services };
    let error = publish(&file, &nobody).unwrap_err();
    let told = error.explain();
    assert!(told.starts_with("fill in the template, line 2: a name that is not defined"), "{told}");
    assert_eq!(std::fs::read(&file.path).unwrap(), before);
    let guarded = format!("{{% if services.index.endpoint %}}\n{INI}{{% endif %}}\n");
    assert_eq!(text(&of(&file.path, Quoting::Plain, &guarded), &nobody), "");
}

#[tokio::test]
async fn a_changed_revision_alone_is_no_change_wherever_it_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let template = format!("{INI}# {{{{ revision }}}}0 and {{{{ revision }}}}\n");
    let file = of(&dir.path().join("x.ini"), Quoting::Plain, &template);
    let file = with_hook(file, "echo ran >> hooks");
    let hooks = || {
        let text = std::fs::read_to_string(dir.path().join("hooks")).unwrap();
        text.lines().count()
    };
    let mut running = Running::start(&file);
    let told = |kind: &ReportKind| matches!(kind, ReportKind::HookRan { .. });
    assert!(running.switch(config(9, "primary")).await);
    running.until(told).await;
    assert!(!running.switch(config(10, "primary")).await, "the revision alone");
    assert!(std::fs::read_to_string(&file.path).unwrap().ends_with("# 100 and 10\n"));
    assert!(running.switch(config(11, "backup")).await);
    running.stop().await;
    assert_eq!(hooks(), 2);
    let mut restarted = Running::start(&file);
    assert!(!restarted.switch(config(12, "backup")).await, "nor after a restart");
    std::fs::write(&file.path, text(&file, &config(12, "backup")).replace("12\n", "13\n")).unwrap();
    let report = restarted.until(|kind| *kind == ReportKind::DriftRepaired).await;
    assert_eq!(report.revision, Revision::new(12));
    restarted.stop().await;
    assert_eq!(hooks(), 3, "two numbers in one file are nobody's revision");
}

#[tokio::test(start_paused = true)]
async fn an_edited_or_deleted_file_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let file = of(&dir.path().join("x.json"), Quoting::Json, JSON);
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    let right = std::fs::read(&file.path).unwrap();
    let damages: [&dyn Fn(); 3] = [
        &|| std::fs::write(&file.path, "{}").unwrap(),
        &|| std::fs::write(&file.path, [right.as_slice(), b"\n\n"].concat()).unwrap(),
        &|| std::fs::remove_file(&file.path).unwrap(),
    ];
    for damage in damages {
        damage();
        running.until(|kind| *kind == ReportKind::DriftRepaired).await;
        assert_eq!(std::fs::read(&file.path).unwrap(), right);
    }
    running.stop().await;
}

#[tokio::test]
async fn what_a_check_refuses_is_never_seen_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let allowed = dir.path().join("allowed");
    let script = "grep -q primary \"$1\" || test -e \"$0\" || \
                  { echo why: the index is unknown; cat \"$1\"; exit 3; }";
    let argv = ["sh", "-euc", script, allowed.to_str().unwrap(), "{staged}"];
    let file = of(&dir.path().join("x.json"), Quoting::Json, JSON);
    let file = with_hook(with_check(file, &argv, DEADLINE), "echo ran >> hooks");
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    running.until(|kind| matches!(kind, ReportKind::HookRan { .. })).await;
    let before = std::fs::read(&file.path).unwrap();
    running.publish(config(2, "backup"));
    for _ in 0..2 {
        let error = running.failed().await;
        assert!(error.contains("exit status: 3: why: the index is unknown"), "{error}");
        assert!(error.contains("help: the old file stays"), "{error}");
        assert!(!error.contains("key-of") && !error.contains("example"), "{error}");
        assert_eq!(std::fs::read(&file.path).unwrap(), before);
        assert_eq!(leftovers(dir.path()), Vec::<String>::new(), "no copy, no hook due");
    }
    running.switch(config(3, "primary")).await;
    std::fs::write(&allowed, "").unwrap();
    assert!(running.switch(config(4, "backup")).await);
    running.stop().await;
    let hooks = std::fs::read_to_string(dir.path().join("hooks")).unwrap();
    assert_eq!(hooks, "ran\nran\n", "a file that came back unchanged is no change");
}

#[tokio::test]
async fn a_check_sees_the_whole_file_under_its_ending_and_before_its_readers_do() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let script = "case \"$1\" in *.json) ;; *) exit 4;; esac; test ! -e \"$MCP_FAILOVER_FILE\"; \
                  test -z \"${HOME_OF_SECRETS:-}\"; cp \"$1\" \"$0\"";
    let argv = ["sh", "-euc", script, seen.to_str().unwrap(), "{staged}"];
    let file = of(&dir.path().join("x.json"), Quoting::Json, JSON);
    let file = with_check(file, &argv, DEADLINE);
    let mut running = Running::start(&file);
    running.switch(config(1, "primary")).await;
    running.stop().await;
    assert_eq!(std::fs::read(&seen).unwrap(), std::fs::read(&file.path).unwrap());
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_check_that_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = "sleep 1000 & echo $! $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; wait; test \"$1\"";
    let argv = ["sh", "-c", script, pids.to_str().unwrap(), "{staged}"];
    let file = env_file(&dir.path().join("x.env"));
    let file = with_check(file, &argv, Duration::from_secs(1));
    let mut running = Running::start(&file);
    running.publish(config(1, "primary"));
    while !pids.exists() {
        let error = running.failed().await;
        assert!(error.contains("not done within 1s"), "{error}");
    }
    running.cancel.cancel();
    running.stop().await;
    let all = std::fs::read_to_string(&pids).unwrap();
    let dead = || all.split_whitespace().all(|pid| !super::hooks::is_alive(pid));
    super::hooks::eventually("their end", dead);
    assert!(!file.path.exists());
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_newer_revision_does_not_wait_for_a_check_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script =
        "grep -q backup \"$1\" || { echo $$ > \"$0.new\"; mv \"$0.new\" \"$0\"; exec sleep 1000; }";
    let argv = ["sh", "-euc", script, pid.to_str().unwrap(), "{staged}"];
    let file = of(&dir.path().join("x.json"), Quoting::Json, JSON);
    let mut running = Running::start(&with_check(file, &argv, Duration::from_secs(3_600)));
    running.publish(config(1, "primary"));
    while !pid.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await; // poll
    }
    running.publish(config(2, "backup"));
    let report = running.next().await;
    assert!(matches!(report.kind, ReportKind::Wrote { changed: true, .. }), "{report:?}");
    assert_eq!(report.revision, Revision::new(2));
    let pid = std::fs::read_to_string(&pid).unwrap();
    super::hooks::eventually("its end", || !super::hooks::is_alive(&pid));
    running.stop().await;
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

#[test]
fn a_bind_mounted_file_is_checked_before_it_is_overwritten_in_place() {
    if inner() {
        let path = inner_dir().join("x.json");
        let argv = ["grep", "-q", "primary", "{staged}"];
        let file = with_check(of(&path, Quoting::Json, JSON), &argv, DEADLINE);
        assert!(publish(&file, &config(1, "primary")).unwrap().in_place);
        let before = std::fs::read(&path).unwrap();
        let error = publish(&file, &config(2, "backup")).unwrap_err();
        assert!(matches!(error, OutputError::Refused { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(leftovers(&inner_dir()), Vec::<String>::new());
        return;
    }
    if may_mount() {
        let dir = tempfile::tempdir().unwrap();
        let script =
            "cd \"$MCPF_INNER_DIR\"; echo old > x.json; mount --bind x.json x.json; exec \"$@\"";
        let test =
            "output::template::a_bind_mounted_file_is_checked_before_it_is_overwritten_in_place";
        assert_passed(&again(&["unshare", "-m", "sh", "-euc", script, "sh"], test, dir.path()));
    }
}

#[test]
fn a_check_that_is_missing_or_writes_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let file = |argv: &[&str]| {
        with_check(of(&dir.path().join("x.json"), Quoting::Json, JSON), argv, DEADLINE)
    };
    let same_size = "printf '[' | dd of=\"$0\" conv=notrunc status=none";
    let scripts =
        [same_size, "echo more >> \"$0\"", "rm \"$0\"", "cp \"$0\" \"$0.x\"; mv \"$0.x\" \"$0\""];
    for script in scripts {
        let error = publish(&file(&["sh", "-euc", script, "{staged}"]), &config(1, "primary"));
        let told = error.unwrap_err().explain();
        assert!(told.contains("changed the file instead of only looking at it"), "{told}");
    }
    let error = publish(&file(&["/no/such/check", "{staged}"]), &config(1, "primary"));
    let told = error.unwrap_err().explain();
    assert!(told.contains("its check failed to run /no/such/check"), "{told}");
    assert!(!dir.path().join("x.json").exists());
    assert_eq!(leftovers(dir.path()), Vec::<String>::new());
}

#[test]
fn a_piece_of_a_value_that_a_check_quotes_is_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sed 's/.*\\(sesame-\\).*/\\1/; s/^/at: /' \"$0\"; exit 1";
    let file = of(&dir.path().join("x.json"), Quoting::Json, JSON);
    let file = with_check(file, &["sh", "-c", script, "{staged}"], DEADLINE);
    let env = [("INDEX_HOST", "https://a.example.com"), ("INDEX_KEY", "open \"sesame-9183\" now")];
    let told = publish(&file, &config_of(1, "primary", &env)).unwrap_err().explain();
    assert!(told.contains("at: \"host\": \"***\""), "{told}");
    let script = "cut -c 1-24 \"$0\"; exit 1";
    let file = with_check(file, &["sh", "-c", script, "{staged}"], DEADLINE);
    let told = publish(&file, &config_of(1, "primary", &env)).unwrap_err().explain();
    assert!(told.contains("\"key\": \"***") && !told.contains("sesa"), "{told}");
}
