//! A page of a list of objects, as far as we need it: keys, sizes and where it goes on.
//!
//! Invariants
//! 1. A page that is cut off is no page.
//! 2. Whatever the bytes are, reading them takes no longer than in proportion to their number.

/// One page.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Page<'a> {
    /// Key and size of each object. Keys are as they stand there: ours need no escapes.
    pub(super) objects: Vec<(&'a str, u64)>,
    /// What to ask the next page with.
    pub(super) next: Option<String>,
}

/// Reads a page; `None` when it is not one, or not whole.
pub(super) fn read(xml: &str) -> Option<Page<'_>> {
    let (_, inside) = xml.split_once("<ListBucketResult")?;
    let (attributes, inside) = inside.split_once('>')?;
    if attributes.ends_with('/') {
        return Some(Page::default());
    }
    let (inside, _) = inside.rsplit_once("</ListBucketResult>")?;
    let mut page = Page::default();
    // What is not inside of an object is about the page.
    let mut about = String::new();
    let mut parts = inside.split("<Contents>");
    about.push_str(parts.next()?);
    for part in parts {
        let (object, rest) = part.split_once("</Contents>")?;
        let size = element(object, "Size").and_then(|size| size.trim().parse().ok());
        page.objects.push((element(object, "Key")?, size.unwrap_or(0)));
        about.push_str(rest);
    }
    let more = element(&about, "IsTruncated").is_some_and(|text| text.trim() == "true");
    if more {
        page.next = Some(unescape(element(&about, "NextContinuationToken")?));
    }
    Some(page)
}

/// The text of an element.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

fn unescape(text: &str) -> String {
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    plain.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p/</Prefix>
<MaxKeys>1000</MaxKeys><Contents><Key>p/one</Key><Size>12</Size><Owner><ID>x</ID></Owner></Contents>
<Contents><Size>3</Size><Key>p/two</Key></Contents><IsTruncated>true</IsTruncated>
<NextContinuationToken>a&amp;b=</NextContinuationToken>
<CommonPrefixes><Prefix>p/deeper/</Prefix></CommonPrefixes></ListBucketResult>"#;

    #[test]
    fn keys_and_sizes_are_read_and_where_it_goes_on() {
        let page = read(PAGE).expect("a page");
        assert_eq!(page.objects, [("p/one", 12), ("p/two", 3)]);
        assert_eq!(page.next.as_deref(), Some("a&b="));
        let last = PAGE.replace("true", "false");
        assert_eq!(read(&last).expect("a page").next, None);
    }

    #[test]
    fn an_empty_list_is_a_page() {
        for empty in ["<ListBucketResult/>", "<ListBucketResult xmlns=\"x\"></ListBucketResult>"] {
            assert_eq!(read(empty), Some(Page::default()), "{empty}");
        }
    }

    #[test]
    fn a_page_that_is_cut_off_is_none() {
        let end = PAGE.find("</ListBucketResult>").expect("an end");
        for cut in 0..end {
            assert_eq!(read(PAGE.get(..cut).expect("plain letters")), None, "{cut}");
        }
        let without = PAGE.replace("<NextContinuationToken>a&amp;b=</NextContinuationToken>", "");
        assert_eq!(read(&without), None, "there is more, but not where");
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_a_page_or_none(parts in prop::collection::vec(
            prop::sample::select(vec![
                "<ListBucketResult", "<ListBucketResult>", "</ListBucketResult>", ">", "/>",
                "<Contents>", "</Contents>", "<Key>", "</Key>", "k", "<Size>", "9", "</Size>",
                "<IsTruncated>", "true", "</IsTruncated>", "<NextContinuationToken>", "\u{fc}",
            ]),
            0..40,
        )) {
            drop(read(&parts.concat()));
        }
    }
}
