//! A registry on this host, empty, and what goes to it and from it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::lab::{remove, tool};

/// docker-registry behind something that counts; both end with it.
pub(crate) struct Registry {
    process: Child,
    /// Its own port.
    behind: u16,
    /// That of what counts.
    port: u16,
    traffic: Arc<Traffic>,
}

/// Bytes of both directions, as TCP has them.
#[derive(Default)]
struct Traffic {
    to: AtomicU64,
    from: AtomicU64,
    /// How late each answer is, in milliseconds.
    delay: AtomicU64,
}

impl Registry {
    /// An empty one in place of what is in the directory.
    pub(crate) fn start(directory: &Path) -> Self {
        remove(directory);
        fs::create_dir(directory).unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let behind = own.local_addr().unwrap().port();
        // The registry takes its port; another process could, too, and then it does not start.
        drop(own);
        let configuration = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{behind}\n",
            directory.join("storage").display()
        );
        let file = directory.join("config.yml");
        fs::write(&file, configuration).unwrap();
        let process = tool("docker-registry", "docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", behind)).is_err() {
            let waited = started.elapsed();
            assert!(
                waited < Duration::from_secs(20),
                "the registry does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let traffic = Arc::new(Traffic::default());
        let counted = Arc::clone(&traffic);
        // It waits for connections until the measurements end.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", behind)) else {
                    return;
                };
                forward(&client, &server, &counted);
            }
        });
        Self {
            process,
            behind,
            port,
            traffic,
        }
    }

    /// `HOST:PORT/NAME`, without anything in between that takes time.
    pub(crate) fn direct(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.behind)
    }

    /// `HOST:PORT/NAME`, where bytes are counted.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Lets each answer come so much later, where bytes are counted.
    pub(crate) fn delay(&self, delay: Duration) {
        let milliseconds = delay.as_millis() as u64;
        self.traffic.delay.store(milliseconds, Ordering::SeqCst);
    }

    /// Bytes that went to it while something ran.
    pub(crate) fn sent(&self, run: impl FnOnce()) -> u64 {
        let before = self.traffic.to.load(Ordering::SeqCst);
        run();
        self.traffic.to.load(Ordering::SeqCst) - before
    }

    /// Bytes that came from it while something ran.
    pub(crate) fn received(&self, run: impl FnOnce()) -> u64 {
        let before = self.traffic.from.load(Ordering::SeqCst);
        run();
        self.traffic.from.load(Ordering::SeqCst) - before
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn forward(client: &TcpStream, server: &TcpStream, traffic: &Arc<Traffic>) {
    // Whether something was asked since the last answer.
    let asked = Arc::new(AtomicBool::new(false));
    let pump = |from: &TcpStream, to: &TcpStream, is_answer: bool| {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let (traffic, asked) = (Arc::clone(traffic), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 256 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if asked.swap(!is_answer, Ordering::SeqCst) && is_answer {
                    let delay = traffic.delay.load(Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(delay));
                }
                let count = if is_answer {
                    &traffic.from
                } else {
                    &traffic.to
                };
                // Before it is passed on: who has it may ask for the sum at once.
                count.fetch_add(length as u64, Ordering::SeqCst);
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    pump(client, server, false);
    pump(server, client, true);
}
