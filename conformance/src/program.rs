//! A compiled program with its description.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use dmux_p4rt::P4Info;
use dmux_p4rt::p4::config::v1;
use prost::Message;
use serde_json::Value;

/// What the compiler makes of a program.
#[derive(Debug, Clone)]
pub struct Program {
    /// What it is called: the file's name without ending.
    pub name: String,
    /// The BMv2 JSON, as bytes.
    pub json: Vec<u8>,
    /// The P4Info; empty where p4c could not make one.
    pub info: v1::P4Info,
}

impl Program {
    /// Reads `prefix.json` and `prefix.p4info.txtpb`.
    pub fn load(prefix: &Path) -> Result<Self> {
        let json = with_ending(prefix, ".json");
        let info = with_ending(prefix, ".p4info.txtpb");
        let text = std::fs::read_to_string(&info).with_context(|| format!("{} cannot be read", info.display()))?;
        let info = P4Info::from_text(&text).with_context(|| format!("{} is no P4Info", info.display()))?;
        Ok(Self {
            name: name(prefix),
            json: std::fs::read(&json).with_context(|| format!("{} cannot be read", json.display()))?,
            info: info.raw().clone(),
        })
    }

    /// Every program whose JSON and P4Info lie in a directory, by name.
    pub fn load_all(directory: &Path) -> Result<Vec<Self>> {
        let entries =
            std::fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
        let mut prefixes: Vec<PathBuf> = entries
            .filter_map(|e| Some(e.ok()?.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "json"))
            .map(|p| p.with_extension(""))
            .collect();
        prefixes.sort();
        prefixes.iter().map(|p| Self::load(p)).collect()
    }

    /// The JSON as a tree.
    pub fn tree(&self) -> Result<Value> {
        serde_json::from_slice(&self.json).context("the BMv2 JSON is no JSON")
    }
}

fn with_ending(prefix: &Path, ending: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// p4c for BMv2, with a directory for what it makes.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// `p4c-bm2-ss`.
    pub program: PathBuf,
    /// Where results are kept: a program that is older than its result is not compiled again.
    pub cache: PathBuf,
}

impl Compiler {
    /// Compiles a P4 program.
    ///
    /// # Errors
    /// What the compiler says, when it refuses the program.
    pub fn compile(&self, source: &Path) -> Result<Program> {
        let name = name(source);
        let json = self.cache.join(format!("{name}.json"));
        let info = self.cache.join(format!("{name}.p4info.bin"));
        if !newer(&json, source) {
            // Some programs use what P4Runtime has no words for: then without a P4Info.
            if let Err(why) = self.run(source, &json, Some(&info)) {
                self.run(source, &json, None).map_err(|_| why)?;
                std::fs::write(&info, []).with_context(|| format!("{} cannot be written", info.display()))?;
            }
        }
        let info = std::fs::read(&info).with_context(|| format!("{} cannot be read", info.display()))?;
        Ok(Program {
            name,
            json: std::fs::read(&json).with_context(|| format!("{} cannot be read", json.display()))?,
            info: v1::P4Info::decode(info.as_slice()).context("p4c wrote no P4Info")?,
        })
    }

    fn run(&self, source: &Path, json: &Path, info: Option<&Path>) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["--arch", "v1model", "--std", "p4-16", "--Wdisable"]).arg(source).arg("-o").arg(json);
        if let Some(info) = info {
            command.arg("--p4runtime-files").arg(info);
        }
        let output = command.stdin(Stdio::null()).output().context("p4c-bm2-ss cannot be started")?;
        if !output.status.success() {
            // A partial result must not pass for a whole one the next time.
            let _ = std::fs::remove_file(json);
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().find(|l| l.contains("error")).unwrap_or("no word why").to_owned();
            bail!("p4c: {line}");
        }
        Ok(())
    }
}

fn newer(result: &Path, source: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|m| m.modified());
    matches!((time(result), time(source)), (Ok(result), Ok(source)) if result >= source)
}

/// The program's path, if it is on PATH and can be run.
pub fn on_path(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}
