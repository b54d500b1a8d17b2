//! What stands in a result, held against what is expected. Pure.
//!
//! Only what is looked at is taken out of a result: instructions and schemas can be long.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::policy::model::McpExpect;
use crate::probe::finding::{Finding, Step};
use crate::probe::mcp::message::is_version;

/// Pages of tools that are turned at most.
const PAGES_MAX: usize = 64;
/// Bytes of a cursor that is said back.
const CURSOR_MAX: usize = 4 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    result_type: Option<String>,
    #[serde(default)]
    supported_versions: Vec<IgnoredAny>,
    server_info: Option<Named>,
    #[serde(rename = "_meta")]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    server_info: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    tools: Vec<Named>,
    next_cursor: Option<String>,
    result_type: Option<String>,
}

/// A server of the modern era, as it describes itself.
pub(super) fn discovered(result: &RawValue, expect: &McpExpect) -> Step {
    let discovered: Discovered = parse(result)?;
    if discovered.result_type.as_deref() != Some("complete") {
        return Err(Finding::protocol("discovery is not complete"));
    }
    if discovered.supported_versions.is_empty() {
        return Err(Finding::protocol("server names no version that it speaks"));
    }
    let info = discovered.meta.and_then(|meta| meta.server_info).or(discovered.server_info);
    identity(info.as_ref(), expect)
}

/// A server of the legacy era, as it describes itself; returns the version agreed on.
pub(super) fn initialized(result: &RawValue, expect: &McpExpect) -> Step<String> {
    let initialized: Initialized = parse(result)?;
    if !is_version(&initialized.protocol_version) {
        return Err(Finding::protocol("server names no version that it speaks"));
    }
    identity(initialized.server_info.as_ref(), expect)?;
    Ok(initialized.protocol_version)
}

/// The version agreed on, whatever else is wrong with the result.
pub(super) fn version(result: &RawValue) -> Option<String> {
    let initialized: Initialized = serde_json::from_str(result.get()).ok()?;
    is_version(&initialized.protocol_version).then_some(initialized.protocol_version)
}

fn identity(info: Option<&Named>, expect: &McpExpect) -> Step {
    match (&expect.server, info) {
        (None, _) => Ok(()),
        (Some(wanted), Some(info)) if info.name == *wanted => Ok(()),
        (Some(_), Some(_)) => Err(Finding::protocol("server has another name")),
        (Some(_), None) => Err(Finding::protocol("server does not say its name")),
    }
}

fn parse<'a, T: Deserialize<'a>>(result: &'a RawValue) -> Step<T> {
    serde_json::from_str(result.get())
        .map_err(|_error| Finding::protocol("result is not of the shape that MCP gives it"))
}

/// Which of the expected tools were seen so far.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    missing: BTreeSet<&'a str>,
    pages: usize,
}

impl<'a> Tools<'a> {
    /// `None` when no tool is expected: the list need not be asked for.
    pub(super) fn expected(expect: &'a McpExpect) -> Option<Self> {
        let missing: BTreeSet<_> = expect.tools.iter().map(String::as_str).collect();
        (!missing.is_empty()).then_some(Self { missing, pages: 0 })
    }

    /// Takes a page; returns where the next begins, if it is needed.
    pub(super) fn turn(&mut self, result: &RawValue) -> Step<Option<String>> {
        let page: Page = parse(result)?;
        if page.result_type.is_some_and(|kind| kind != "complete") {
            return Err(Finding::protocol("list of tools is not complete"));
        }
        for tool in &page.tools {
            self.missing.remove(tool.name.as_str());
        }
        self.pages += 1;
        match (self.missing.first(), page.next_cursor) {
            (None, _) => Ok(None),
            (Some(_), Some(cursor)) if self.pages < PAGES_MAX && cursor.len() <= CURSOR_MAX => {
                Ok(Some(cursor))
            }
            (Some(_), Some(_)) => Err(Finding::protocol("list of tools has no end")),
            (Some(tool), None) => Err(Finding::protocol(format!("tool {tool:?} is missing"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn detail<T: std::fmt::Debug>(end: Step<T>) -> String {
        end.expect_err("a finding").detail.into_owned()
    }

    fn named(server: &str) -> McpExpect {
        McpExpect { server: Some(server.to_owned()), ..McpExpect::default() }
    }

    #[test]
    fn a_modern_server_must_be_complete_and_speak_something() {
        let any = McpExpect::default();
        let of = |text: &str| discovered(&raw(text), &any);
        assert_eq!(of(r#"{"resultType":"complete","supportedVersions":["2026-07-28"]}"#), Ok(()));
        let partial = of(r#"{"resultType":"input_required","supportedVersions":["2026-07-28"]}"#);
        assert_eq!(detail(partial), "discovery is not complete");
        assert_eq!(detail(of("{}")), "discovery is not complete");
        let mute = of(r#"{"resultType":"complete","supportedVersions":[]}"#);
        assert_eq!(detail(mute), "server names no version that it speaks");
        let shape = "result is not of the shape that MCP gives it";
        assert_eq!(detail(of("[]")), shape);
        assert_eq!(detail(of(r#"{"resultType":1}"#)), shape);
    }

    #[test]
    fn a_server_is_known_by_its_name_in_either_era() {
        let modern = r#"{"resultType":"complete","supportedVersions":[""],"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"a"}}}"#;
        assert_eq!(discovered(&raw(modern), &named("a")), Ok(()));
        assert_eq!(detail(discovered(&raw(modern), &named("b"))), "server has another name");
        let plain =
            r#"{"resultType":"complete","supportedVersions":[""],"serverInfo":{"name":"a"}}"#;
        assert_eq!(discovered(&raw(plain), &named("a")), Ok(()));
        let legacy = r#"{"protocolVersion":"2025-06-18","serverInfo":{"name":"a"}}"#;
        assert_eq!(initialized(&raw(legacy), &named("a")), Ok("2025-06-18".to_owned()));
        assert_eq!(detail(initialized(&raw(legacy), &named("b"))), "server has another name");
        let mute = r#"{"protocolVersion":"2025-06-18"}"#;
        assert_eq!(detail(initialized(&raw(mute), &named("a"))), "server does not say its name");
        assert!(initialized(&raw(mute), &McpExpect::default()).is_ok());
    }

    #[test]
    fn the_version_agreed_on_is_the_servers_and_fit_to_be_said_back() {
        let any = McpExpect::default();
        let of = |text: &str| initialized(&raw(text), &any);
        assert_eq!(of(r#"{"protocolVersion":"2024-11-05"}"#), Ok("2024-11-05".to_owned()));
        let bad = of(r#"{"protocolVersion":"a\r\nb"}"#);
        assert_eq!(detail(bad), "server names no version that it speaks");
        assert_eq!(version(&raw(r#"{"protocolVersion":"a\r\nb"}"#)), None);
        assert_eq!(version(&raw(r#"{"protocolVersion":"2025-03-26"}"#)).unwrap(), "2025-03-26");
    }

    #[test]
    fn tools_are_looked_for_over_pages_and_no_further_than_needed() {
        let expect =
            McpExpect { tools: vec!["a".to_owned(), "b".to_owned()], ..McpExpect::default() };
        let mut tools = Tools::expected(&expect).unwrap();
        let first = r#"{"tools":[{"name":"a","inputSchema":{}}],"nextCursor":"2"}"#;
        assert_eq!(tools.turn(&raw(first)), Ok(Some("2".to_owned())));
        let second = r#"{"tools":[{"name":"b"}],"nextCursor":"3"}"#;
        assert_eq!(tools.turn(&raw(second)), Ok(None));
        let mut tools = Tools::expected(&expect).unwrap();
        let only = r#"{"tools":[{"name":"b"}]}"#;
        assert_eq!(detail(tools.turn(&raw(only))), "tool \"a\" is missing");
        assert!(Tools::expected(&McpExpect::default()).is_none());
    }

    #[test]
    fn a_list_without_end_is_given_up() {
        let expect = McpExpect { tools: vec!["a".to_owned()], ..McpExpect::default() };
        let mut tools = Tools::expected(&expect).unwrap();
        let page = raw(r#"{"tools":[],"nextCursor":"again"}"#);
        let end = (0..PAGES_MAX).find_map(|_| tools.turn(&page).err());
        assert_eq!(end.unwrap().detail, "list of tools has no end");
        let long = format!("{{\"tools\":[],\"nextCursor\":\"{}\"}}", "x".repeat(CURSOR_MAX + 1));
        let mut tools = Tools::expected(&expect).unwrap();
        assert_eq!(detail(tools.turn(&raw(&long))), "list of tools has no end");
    }
}
