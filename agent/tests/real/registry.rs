//! A registry of one's own: images made up on the spot, served as slowly as a test wants, and a count of the downloads
//! that are going on. No real registry can be told to be slow on demand.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::new_image::{MANIFEST, NewImage, digest};

const CHUNK: usize = 32 * 1024;

pub struct Registry {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Path → content type and content.
    content: Mutex<HashMap<String, (String, Vec<u8>)>>,
    slow: AtomicBool,
    stalled: AtomicBool,
    /// What the `Authorization` header has to say, if anybody has to log in.
    login: Mutex<Option<String>>,
    downloads: AtomicUsize,
}

/// An image in the registry.
pub struct Served {
    pub reference: String,
    pub digest: String,
}

impl Registry {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&served);
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        Self { address, shared }
    }

    /// Adds an image of one layer of 3 MiB that no runtime has ever seen: about ten seconds when served slowly.
    pub fn add(&self, name: &str) -> Served {
        let image = NewImage::of(&format!("{name} {}", self.address));
        for tag in ["1", &image.digest()] {
            self.put(format!("/v2/{name}/manifests/{tag}"), MANIFEST, image.manifest.clone());
        }
        for blob in [&image.config, &image.layer] {
            self.put(format!("/v2/{name}/blobs/{}", digest(blob)), "application/octet-stream", blob.clone());
        }
        Served { reference: format!("{}/{name}:1", self.address), digest: image.digest() }
    }

    pub fn serve_slowly(&self, slow: bool) {
        self.shared.slow.store(slow, Ordering::SeqCst);
    }

    /// Sends nothing more of any layer until told to go on.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Wants this user and password from now on.
    pub fn require_login(&self, username: &str, password: &str) {
        let login = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
        *self.shared.login.lock().unwrap() = Some(login);
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many layers are being downloaded now.
    pub fn downloads(&self) -> usize {
        self.shared.downloads.load(Ordering::SeqCst)
    }

    fn put(&self, path: String, content_type: &str, content: Vec<u8>) {
        self.shared.content.lock().unwrap().insert(path, (content_type.to_owned(), content));
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) {
        // containerd tries TLS first; an answer in plain text makes it fall back to HTTP.
        let mut first = [0_u8];
        if stream.peek(&mut first).is_ok() && first[0] == 0x16 {
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
            return;
        }
        let mut request = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if reader.read_line(&mut request).is_err() {
            return;
        }
        let (mut header, mut login) = (String::new(), None);
        while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
            if let Some(value) = header.strip_prefix("Authorization: ") {
                login = Some(value.trim().to_owned());
            }
            header.clear();
        }
        if self.login.lock().unwrap().as_ref().is_some_and(|wanted| login.as_ref() != Some(wanted)) {
            let _ = stream.write_all(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            );
            return;
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = path.split('?').next().unwrap_or_default();
        let found = self.content.lock().unwrap().get(path).cloned();
        let _ = match found {
            None if path == "/v2/" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            }
            None => {
                let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                write!(
                    stream,
                    "HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
            }
            Some((content_type, content)) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nDocker-Content-Digest: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    digest(&content),
                    content.len()
                );
                stream
                    .write_all(head.as_bytes())
                    .and_then(|()| if method == "HEAD" { Ok(()) } else { self.send(&mut stream, &content) })
            }
        };
    }

    fn send(&self, stream: &mut TcpStream, content: &[u8]) -> std::io::Result<()> {
        let layer = content.len() > CHUNK;
        if !layer {
            return stream.write_all(content);
        }
        self.downloads.fetch_add(1, Ordering::SeqCst);
        let sent = content.chunks(CHUNK).try_for_each(|chunk| {
            if self.slow.load(Ordering::SeqCst) {
                // The pace of the download, not a wait for anything.
                std::thread::sleep(Duration::from_millis(100));
            }
            while self.stalled.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(10));
            }
            stream.write_all(chunk)
        });
        self.downloads.fetch_sub(1, Ordering::SeqCst);
        sent
    }
}
