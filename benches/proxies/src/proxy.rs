//! The proxies: where their programs are, and how they are configured and started.
//!
//! Each has one worker, keeps connections alive on both sides, writes no access log, ejects failing upstreams, and
//! sends a request to the less loaded of two random upstreams, as power of two does. Everything else is the proxy's
//! default.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::process::{Process, find};

/// How long a proxy may take until it answers.
const START: Duration = Duration::from_secs(5);
/// How many starts to try, each with another port, in case another process has taken the free one.
const TRIES: u32 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Proxy {
    Nginx,
    Haproxy,
    Envoy,
}

/// A proxy that is running and answers.
pub(crate) struct Running {
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    /// The process ids, workers included.
    pub(crate) ids: Vec<u32>,
    /// Ends the proxy when dropped.
    _process: Process,
}

impl Proxy {
    pub(crate) const ALL: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    /// The proxy's name for choosing the less loaded of two.
    pub(crate) fn policy(self) -> &'static str {
        match self {
            Self::Nginx => "random two least_conn",
            Self::Haproxy => "balance random(2)",
            Self::Envoy => "LEAST_REQUEST",
        }
    }

    /// Starts the proxy in front of these upstreams, with its files in `folder`.
    pub(crate) fn start(self, upstreams: &[SocketAddr], folder: &Path) -> Fallible<Running> {
        let program = self
            .program()
            .ok_or("not found; run benches/proxies/install")?;
        let version = self.version(&program)?;
        let mut tries = 1;
        loop {
            match self.start_once(&program, &version, upstreams, folder) {
                Err(_) if tries < TRIES => tries += 1,
                ended => return ended,
            }
        }
    }

    fn start_once(
        self,
        program: &Path,
        version: &str,
        upstreams: &[SocketAddr],
        folder: &Path,
    ) -> Fallible<Running> {
        let address = free_address()?;
        let folder = folder.join(self.name());
        fs::create_dir_all(&folder)?;
        // Envoy needs this extension; the others ignore it.
        let (settings, log) = (folder.join("settings.yaml"), folder.join("log"));
        fs::write(&settings, self.settings(address, upstreams, &folder))?;
        let args = self.args(&settings, &folder, &log);
        let mut process = Process::start(program, &args, &folder.join("output"))?;
        let begun = Instant::now();
        while !answers(address) {
            if process.has_ended() || begun.elapsed() > START {
                return Err(format!("did not start: {}", last_words(&folder)).into());
            }
            sleep(Duration::from_millis(20));
        }
        Ok(Running {
            version: version.into(),
            address,
            ids: process.family()?,
            _process: process,
        })
    }

    fn program(self) -> Option<PathBuf> {
        let fetched = cache().map(|cache| cache.join(self.name()));
        let fetched = fetched.filter(|program| program.is_file());
        fetched.or_else(|| find(self.name()))
    }

    fn version(self, program: &Path) -> Fallible<String> {
        let flag = match self {
            Self::Nginx | Self::Haproxy => "-v",
            Self::Envoy => "--version",
        };
        let output = Command::new(program).arg(flag).output()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Ok(version_in(&text).unwrap_or("of an unknown version").into())
    }

    fn args(self, settings: &Path, folder: &Path, log: &Path) -> Vec<String> {
        let [settings, folder, log] =
            [settings, folder, log].map(|path| path.display().to_string());
        let args = match self {
            Self::Nginx => vec!["-p", &folder, "-c", &settings, "-e", &log],
            Self::Haproxy => vec!["-db", "-f", &settings],
            Self::Envoy => vec![
                "--config-path",
                &settings,
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warn",
            ],
        };
        args.into_iter().map(String::from).collect()
    }

    fn settings(self, listen: SocketAddr, upstreams: &[SocketAddr], folder: &Path) -> String {
        match self {
            Self::Nginx => nginx(listen, upstreams, folder),
            Self::Haproxy => haproxy(listen, upstreams),
            Self::Envoy => envoy(listen, upstreams),
        }
    }
}

/// One line per upstream, joined.
fn lines(upstreams: &[SocketAddr], line: impl Fn(usize, &SocketAddr) -> String) -> String {
    let lines = upstreams.iter().enumerate();
    lines.map(|(at, upstream)| line(at, upstream)).collect()
}

/// nginx ejects failing upstreams by default (`max_fails=1 fail_timeout=10s`). It would close connections after 1000
/// requests, which the others do not, so that limit is raised.
fn nginx(listen: SocketAddr, upstreams: &[SocketAddr], folder: &Path) -> String {
    let servers = lines(upstreams, |_, upstream| format!("    server {upstream};\n"));
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes 1;
pid {folder}/pid;
events {{
  worker_connections 1024;
}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream upstreams {{
    zone upstreams 64k;
    random two least_conn;
{servers}    keepalive 64;
    keepalive_requests 100000000;
  }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://upstreams;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
    }}
  }}
}}
"
    )
}

/// HAProxy ejects an upstream for failed requests only if the upstream has a check, which also brings it back.
fn haproxy(listen: SocketAddr, upstreams: &[SocketAddr]) -> String {
    let servers = lines(upstreams, |at, upstream| {
        format!(
            "  server upstream{at} {upstream} check observe layer7 error-limit 5 on-error mark-down\n"
        )
    });
    format!(
        "global
  nbthread 1
  maxconn 1024
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  http-reuse always
frontend entry
  bind {listen}
  default_backend upstreams
backend upstreams
  balance random(2)
{servers}"
    )
}

fn envoy(listen: SocketAddr, upstreams: &[SocketAddr]) -> String {
    let socket = |at: &SocketAddr| {
        let (host, port) = (at.ip(), at.port());
        format!("{{ socket_address: {{ address: {host}, port_value: {port} }} }}")
    };
    let endpoints = lines(upstreams, |_, upstream| {
        format!("        - endpoint: {{ address: {} }}\n", socket(upstream))
    });
    let listen = socket(&listen);
    format!(
        "static_resources:
  listeners:
  - name: entry
    address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: entry
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - match: {{ prefix: / }}
                route: {{ cluster: upstreams }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: upstreams
    type: STATIC
    connect_timeout: 1s
    lb_policy: LEAST_REQUEST
    outlier_detection: {{}}
    load_assignment:
      cluster_name: upstreams
      endpoints:
      - lb_endpoints:
{endpoints}"
    )
}

/// The folder where `install` puts the programs it downloads.
fn cache() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    Some(cache.or_else(home)?.join("evenkeel-proxies"))
}

/// The first word after "version" that looks like a version.
fn version_in(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("version")?;
    let mut words = after.split(|it: char| it.is_whitespace() || it == '/');
    words.find(|word| {
        word.starts_with(|first: char| first.is_ascii_digit()) && word.matches('.').count() >= 2
    })
}

/// An address whose port was free a moment ago.
fn free_address() -> Fallible<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Whether a GET is answered with status 200.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: upstreams\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The last line of the proxy's output, for the report.
fn last_words(folder: &Path) -> String {
    let files = ["log", "output"].map(|file| folder.join(file));
    let texts = files.map(|file| fs::read_to_string(file).unwrap_or_default());
    let lines = texts.iter().flat_map(|text| text.lines());
    let mut said = lines.filter(|line| !line.trim().is_empty());
    said.next_back().unwrap_or("it said nothing").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_programs_say() {
        let said = [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            (
                "HAProxy version 2.6.12-1 2026/10/17 - https://x\n",
                "2.6.12-1",
            ),
            ("\n/a/b  version: 9e558f/1.40.0/Clean/RELEASE\n", "1.40.0"),
        ];
        for (text, version) in said {
            assert_eq!(version_in(text), Some(version));
        }
        assert_eq!(version_in("unknown option"), None);
    }
}
