//! A running server on a data directory of its own, and everything a test asks of it.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder, Response};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Done, S3, SOON, command, run, wait_for};

/// Lines of the server's log that a failed test shows.
const TAIL: usize = 60;

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `molde.toml`.
    pub config: Option<String>,
    /// Where the process ends itself: `KIND/STEP/before`, `middle` or `after`.
    pub abort_at: Option<String>,
    /// The data directory, where it is not to be a new one.
    pub data: Option<PathBuf>,
    /// Where the server looks for programs, where it is not to find all.
    pub path: Option<PathBuf>,
}

/// A server, and a folder for the test's files. Both are gone when the value is dropped.
pub struct Molde {
    folder: TempDir,
    data: PathBuf,
    options: Options,
    child: Option<Child>,
    api: String,
    s3: String,
    http: Client,
    token: Mutex<Option<String>>,
}

impl Molde {
    /// Starts a server on a new data directory.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a server.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("molde-tests-").tempdir().unwrap();
        let data = options.data.clone().unwrap_or_else(|| folder.path().join("data"));
        fs::create_dir(folder.path().join("home")).unwrap();
        fs::write(folder.path().join("molde.toml"), options.config.as_deref().unwrap_or_default()).unwrap();
        let http = Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        let (api, s3, token) = (String::new(), String::new(), Mutex::default());
        let mut molde = Self { folder, data, options, child: None, api, s3, http, token };
        molde.spawn();
        molde
    }

    fn spawn(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut serve = self.command(["serve", "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--data"]);
        serve.arg(&self.data).arg("--config").arg(self.file("molde.toml")).stdout(Stdio::piped()).stderr(log);
        if let Some(path) = &self.options.path {
            serve.env("PATH", path);
        }
        if let Some(place) = &self.options.abort_at {
            serve.args(["--abort-at", place]);
        }
        let mut child = serve.spawn().unwrap_or_else(|error| panic!("cannot start the server: {error}"));
        let stdout = child.stdout.take().unwrap();
        self.child = Some(child);
        let (send, ready) = mpsc::channel();
        // On a thread, so that a server that says nothing is noticed.
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            send.send(read.map(|_| line))
        });
        let line = ready.recv_timeout(SOON).expect("the server says that it is ready").unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["molde", "is", "ready:", "api", api, "s3", s3] = words[..] else {
            panic!("the line of readiness is `{line}`")
        };
        (self.api, self.s3) = (api.to_owned(), s3.to_owned());
        self.token = Mutex::default();
    }

    /// Waits for the server to end, and returns how it did.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("a server was started");
        let status = wait_for("the server ends", || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Kills the server (SIGKILL).
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.wait().signal(), Some(9));
    }

    /// Asks the server to end (SIGTERM) and returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait().code()
    }

    /// Sends the server a signal and does not wait for what it does.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Starts the server again on the same data directory, without an `abort_at`.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the server runs");
        self.options.abort_at = None;
        self.spawn();
    }

    /// Starts the server again so that it ends itself at `place`.
    pub fn restart_to_abort_at(&mut self, place: &str) {
        assert!(self.child.is_none(), "the server runs");
        self.options.abort_at = Some(place.to_owned());
        self.spawn();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a server runs"))
    }

    /// Returns the most memory that the server ever had, in bytes.
    pub fn memory_peak(&self) -> u64 {
        memory_peak(self.pid().as_raw_nonzero().get()).expect("a running process has a peak")
    }

    /// Returns how many bytes the server has read and written through system calls on files, ever.
    ///
    /// What goes over connections is received and sent by other calls, which are not counted.
    pub fn bytes_read_and_written(&self) -> (u64, u64) {
        let io = fs::read_to_string(format!("/proc/{}/io", self.pid().as_raw_nonzero())).unwrap();
        let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap();
        (field("rchar:"), field("wchar:"))
    }

    /// Returns the data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns a path in the folder of the test's files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the address of the API.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// Returns the address of the S3 endpoint.
    pub fn s3_address(&self) -> &str {
        &self.s3
    }

    /// Returns everything that the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.file("server.log")
    }

    /// Returns `credentials.json`.
    pub fn credentials(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.credentials_path()).unwrap()).unwrap()
    }

    /// Returns the path of `credentials.json`.
    pub fn credentials_path(&self) -> PathBuf {
        self.data.join("credentials.json")
    }

    /// Returns an S3 client with the administrator's key.
    pub fn s3(&self) -> S3 {
        let known = self.credentials();
        let text = |name: &str| known[name].as_str().unwrap().to_owned();
        S3 {
            host: self.s3.strip_prefix("http://").unwrap().to_owned(),
            region: text("region"),
            access_key: text("access_key"),
            secret_key: text("secret_key"),
        }
    }

    /// Counts the heads in the store: a content that anything refers to has one, and what was refused has none.
    pub fn heads(&self) -> usize {
        files_below(&self.data.join("store/heads")).len()
    }

    /// Adds up the bytes of all packs in the store.
    pub fn pack_bytes(&self) -> u64 {
        files_below(&self.data.join("store/packs"))
            .iter()
            .map(|path| fs::metadata(path).map_or(0, |file| file.len()))
            .sum()
    }
}

/// The command line.
impl Molde {
    /// Makes a command of the binary, with a home of its own and no environment that changes what it does.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = command(binary(), arguments);
        command.env("HOME", self.file("home")).current_dir(self.folder.path());
        for name in ["MOLDE_CREDENTIALS", "MOLDE_LOG", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command
    }

    /// Makes a command of the binary that asks this server.
    pub fn client<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(arguments);
        command.arg("--credentials").arg(self.credentials_path());
        command
    }

    /// Runs the command line against this server.
    #[track_caller]
    pub fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Done {
        run(&mut self.client(arguments))
    }

    /// Runs the command line against this server and returns the JSON that it prints.
    #[track_caller]
    pub fn cli_json<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Value {
        run(self.client(arguments).args(["--output", "json"])).json()
    }
}

/// The REST API.
impl Molde {
    /// Signs in as the administrator, once for each start.
    #[track_caller]
    pub fn token(&self) -> String {
        let mut token = self.token.lock().unwrap();
        token.get_or_insert_with(|| self.sign_in(&self.credentials())).clone()
    }

    /// Signs in with the user, the password and the project of `credentials`.
    #[track_caller]
    pub fn sign_in(&self, credentials: &Value) -> String {
        let domain = json!({"name": credentials["domain"]});
        let user = json!({"name": credentials["username"], "password": credentials["password"], "domain": domain});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": credentials["project_name"], "domain": domain}},
        }});
        let answer = self.http.post(format!("{}/v3/auth/tokens", self.api)).json(&body).send().unwrap();
        assert_eq!(answer.status(), 201);
        answer.headers()["X-Subject-Token"].to_str().unwrap().to_owned()
    }

    /// Begins a request with the administrator's token.
    #[track_caller]
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(&self.token(), method, path)
    }

    /// Begins a request with another token.
    pub fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.api)).header("X-Auth-Token", token)
    }

    /// Gets JSON; panics unless the answer is a success.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        success(self.request(Method::GET, path).send().unwrap())
    }

    /// Posts JSON; panics unless the answer is a success.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        success(self.request(Method::POST, path).json(body).send().unwrap())
    }

    /// Waits until a job has ended, and returns it.
    #[track_caller]
    pub fn ended_job(&self, id: &str) -> Value {
        wait_for(&format!("job {id} ends"), || {
            let mut answer = self.get(&format!("/molde/v1/jobs/{id}"));
            let state = answer["job"]["state"].as_str().unwrap();
            matches!(state, "done" | "failed" | "cancelled").then(|| answer["job"].take())
        })
    }

    /// Waits until no job is queued or running, and returns all jobs.
    #[track_caller]
    pub fn ended_jobs(&self) -> Vec<Value> {
        wait_for("every job ends", || {
            let mut answer = self.get("/molde/v1/jobs?limit=1000");
            let Value::Array(jobs) = answer["jobs"].take() else { panic!("no list of jobs") };
            jobs.iter()
                .all(|job| matches!(job["state"].as_str(), Some("done" | "failed" | "cancelled")))
                .then_some(jobs)
        })
    }

    /// Returns all images.
    #[track_caller]
    pub fn images(&self) -> Vec<Value> {
        match self.get("/v2/images?limit=1000")["images"].take() {
            Value::Array(images) => images,
            other => panic!("no list of images: {other}"),
        }
    }

    /// Makes a bucket.
    #[track_caller]
    pub fn make_bucket(&self, name: &str) {
        self.cli(["bucket", "create", name]).ok();
    }

    /// Returns what a user may not notice a refused request by: images, buckets, objects, unfinished uploads, and the
    /// contents that the store has a head of.
    #[track_caller]
    pub fn traces(&self) -> Value {
        let buckets = self.cli_json(["bucket", "list"]);
        let inside = buckets.as_array().unwrap().iter().map(|bucket| {
            let name = bucket["name"].as_str().unwrap();
            let list = crate::Request { method: "GET", bucket: name, query: "uploads=", ..crate::Request::default() };
            let uploads = self.s3().send(list, b"");
            assert_eq!(uploads.status, 200, "{}", uploads.text());
            json!([name, self.cli_json(["object", "list", name]), uploads.text()])
        });
        json!({"buckets": inside.collect::<Vec<_>>(), "images": self.images(), "heads": self.heads()})
    }
}

impl Drop for Molde {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        end_servers(&self.data);
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            eprintln!("--- the last lines of the server's log\n{tail}");
        }
    }
}

/// Returns the binary: `MOLDE_BIN`, or the one that was built beside this test.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("MOLDE_BIN").map_or_else(
        || {
            let own = std::env::current_exe().unwrap();
            own.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps").join("molde")
        },
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "the binary `{}` is not there: run `cargo xtask test`, or `cargo build -p molde` first",
        path.display()
    );
    path
}

/// Returns the JSON of an answer; panics unless it is a success.
#[track_caller]
fn success(answer: Response) -> Value {
    let (status, url, text) = (answer.status(), answer.url().clone(), answer.text().unwrap());
    assert!(status.is_success(), "{status} from {url}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON from {url} ({error}): {text}"))
}

/// Returns the most memory that a process ever had, in bytes; `None` once it is gone.
#[must_use]
pub fn memory_peak(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// Returns every file below `folder`; none where there is no such folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Ends the virtual machines of a data directory: they outlive the server on purpose.
fn end_servers(data: &Path) {
    let Ok(servers) = fs::read_dir(data.join("servers")) else { return };
    for folder in servers.filter_map(Result::ok).map(|entry| entry.path()) {
        let text = fs::read_to_string(folder.join("pid")).unwrap_or_default();
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { continue };
        let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&*folder.file_name().unwrap_or_default().to_string_lossy()) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}
