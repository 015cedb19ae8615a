//! The files of the page: their size, and what `build.rs` removes from them.

use super::*;

#[tokio::test]
async fn page_is_small_and_links_are_relative() {
    let server = TestServer::start().await;
    let (mut common, mut languages) = (0, vec![0]);
    for file in page::FILES {
        let path = file.path;
        let (status, head, body) = server.get(path).await;
        assert_eq!(status, 200, "{path}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        for absolute in ["href=\"/", "src=\"/", "url(", "fetch(\"/", "@import", "//cdn"] {
            assert!(!body.contains(absolute), "{path}: {absolute} is an absolute link");
        }
        // The name space of SVG is not an address.
        let count = |text: &str| body.matches(text).count();
        let addresses = count("http://") + count("https://") - count("http://www.w3.org/");
        assert_eq!(addresses, 0, "{path} names another server");
        match path.starts_with("/texts-") {
            true => languages.push(body.len()),
            false => common += body.len(),
        }
    }
    // A browser loads one language.
    let size = common + languages.iter().max().unwrap();
    assert!(languages.len() > 1 && size < 110_000, "{size} bytes");
}

/// What `build.rs` removes from the sources has no meaning: comments, and blanks outside of texts.
#[tokio::test]
async fn served_files_are_equivalent_to_their_sources() {
    let server = TestServer::start().await;
    for file in page::FILES {
        let name = file.path.trim_start_matches('/');
        let name = if name.is_empty() { "index.html" } else { name };
        let path = format!("{}/src/sink/http/page/{name}", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(path).unwrap();
        let (_, _, served) = server.get(file.path).await;
        let is_code = |line: &&str| !["//", "/*"].iter().any(|it| line.trim().starts_with(it));
        let code: Vec<&str> = source.lines().filter(is_code).collect();
        let without_blanks = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(without_blanks(&served), without_blanks(&code.join("\n")), "{name}");
        let words = |text: &str| {
            let words = text.split(|letter: char| !letter.is_alphanumeric());
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(&served), words(&code.join("\n")), "{name}");
        let texts = code.iter().flat_map(|line| line.split('"').skip(1).step_by(2));
        for quoted in texts.filter(|text| !text.contains("${")) {
            assert!(served.contains(quoted), "{name}: {quoted}");
        }
    }
}
