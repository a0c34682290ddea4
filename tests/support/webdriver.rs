//! A browser: Debian's chromium, told what to do by its chromedriver over HTTP
//! (<https://www.w3.org/TR/webdriver2/>).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// The member of a JSON object that names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The longest that the browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page. It ends when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one with a window of this size.
    #[track_caller]
    pub(crate) fn start(width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(program("chromedriver", "chromium-driver"))
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        // What it says later is read, so that it never waits for that.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self {
            driver,
            port: port.expect("chromedriver names its port"),
            session: String::new(),
            _profile: profile,
        };
        let data = browser._profile.path().display();
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={data}"),
            format!("--window-size={width},{height}"),
        ];
        let chromium = program("chromium", "chromium");
        let made = browser.call(
            "POST",
            "/session",
            &json!({ "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": { "args": arguments, "binary": chromium },
                "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            } } }),
        );
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        // What the browser's own first page asks for is its own business.
        browser.post("url", &json!({ "url": "about:blank" }));
        browser.requests();
        browser.console();
        browser
    }

    /// Opens a file.
    #[track_caller]
    pub(crate) fn open(&self, path: &Path) {
        let path = path.canonicalize().unwrap();
        self.post(
            "url",
            &json!({ "url": format!("file://{}", path.display()) }),
        );
    }

    /// What a function body returns in the page.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a function body hands to `done` in the page, later.
    #[track_caller]
    pub(crate) fn wait(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; {script}");
        self.post("execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Clicks the middle of the first element that matches.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Types into an element.
    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(
            &format!("element/{element}/value"),
            &json!({ "text": text }),
        );
    }

    /// The text that is seen of an element.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let element = self.element(selector);
        let text = self.call(
            "GET",
            &self.path(&format!("element/{element}/text")),
            &Value::Null,
        );
        text.as_str().unwrap().to_owned()
    }

    /// The page as a PDF, in base64.
    #[track_caller]
    pub(crate) fn print(&self) -> String {
        self.post("print", &json!({})).as_str().unwrap().to_owned()
    }

    /// Nothing was written to the console, and nothing but this page was asked for.
    #[track_caller]
    pub(crate) fn is_quiet_about(&self, page: &Path) {
        assert_eq!(self.console(), [""; 0]);
        let page = format!("file://{}", page.canonicalize().unwrap().display());
        let asked = self.requests();
        let own = |url: &String| *url == page || url.starts_with("data:");
        assert!(asked.contains(&page) && asked.iter().all(own), "{asked:#?}");
    }

    /// What the page wrote to the console since it was asked last.
    #[track_caller]
    fn console(&self) -> Vec<String> {
        let entries = self.log("browser");
        let entries = entries
            .iter()
            .map(|entry| entry["message"].as_str().unwrap().to_owned());
        entries.collect()
    }

    /// The addresses that the page asked for since that was asked last.
    #[track_caller]
    fn requests(&self) -> Vec<String> {
        let entries = self.log("performance");
        let messages = entries.iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let is_request = message["message"]["method"] == "Network.requestWillBeSent";
            let url = message["message"]["params"]["request"]["url"].as_str()?;
            is_request.then(|| url.to_owned())
        });
        messages.collect()
    }

    #[track_caller]
    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.post("se/log", &json!({ "type": kind }));
        entries.as_array().unwrap().clone()
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let using = json!({ "using": "css selector", "value": selector });
        let found = self.post("element", &using);
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    fn path(&self, rest: &str) -> String {
        format!("/session/{}/{rest}", self.session)
    }

    #[track_caller]
    fn post(&self, rest: &str, body: &Value) -> Value {
        self.call("POST", &self.path(rest), body)
    }

    /// The value that the driver answers with.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        match self.try_call(method, path, body) {
            Ok(answer) if answer["value"]["error"].is_string() => {
                panic!("{method} {path}: {}", answer["value"])
            }
            Ok(mut answer) => answer["value"].take(),
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // This ends chromium, too.
        let _ = self.try_call(
            "DELETE",
            &format!("/session/{}", self.session),
            &Value::Null,
        );
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[track_caller]
fn program(name: &str, package: &str) -> std::path::PathBuf {
    vmfab::host::find_program(name)
        .unwrap_or_else(|| panic!("{name} is not installed: install the Debian package {package}"))
}
