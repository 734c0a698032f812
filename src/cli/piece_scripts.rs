//! Scripts that start workers as an array: what a scheduler takes. Pure.

use crate::error::{Error, Result};

/// Seconds before the time limit at which SLURM says so: a worker ends within 5.
const WARNING_SECONDS: u32 = 60;
/// How often a worker that failed is started again.
const RETRIES: u32 = 10;

/// The workers of an array.
pub(super) struct Workers {
    /// The run folder, as workers see it.
    pub run: String,
    pub workers: u32,
    /// Of each.
    pub threads: usize,
    /// Bytes of each.
    pub memory: u64,
    /// Seconds that each waits for parts.
    pub wait: u64,
}

impl Workers {
    /// MiB of each.
    fn mib(&self) -> u64 {
        self.memory.div_ceil(1 << 20)
    }

    /// MiB that the scheduler is asked for: pages of mapped files are counted by some, and can be dropped.
    fn granted_mib(&self) -> u64 {
        self.mib() + self.mib() / 4 + 64
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A batch script for `sbatch`. Workers beyond the longest array are further arrays of the same script.
pub(super) fn slurm(workers: &Workers, time_limit: Option<u32>, max_array_size: u32) -> String {
    let Workers { run, workers: all, threads, wait, .. } = workers;
    let (mib, granted) = (workers.mib(), workers.granted_mib());
    // Indices end below MaxArraySize.
    let length = (*all).min(max_array_size - 1);
    let last = length - 1;
    let submit = match *all > length {
        false => "# Submit: sbatch SCRIPT".to_owned(),
        true => format!(
            "# Submit: for first in $(seq 0 {length} {}); do sbatch --export=ALL,FIRST_WORKER=$first SCRIPT; done",
            *all - 1
        ),
    };
    let minutes = time_limit.map_or(String::new(), |seconds| format!("#SBATCH --time={}\n", seconds.div_ceil(60)));
    let run = quoted(run);
    format!(
        r#"#!/bin/bash
# Workers of a batchmine job that waits for parts (mine --pieces external).
{submit}
#SBATCH --job-name=batchmine
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={threads}
#SBATCH --mem={granted}M
{minutes}#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@{WARNING_SECONDS}

index=$((${{FIRST_WORKER:-0}} + SLURM_ARRAY_TASK_ID))
[ "$index" -lt {all} ] || exit 0

batchmine work {run} --index "$index" --of {all} --wait {wait} --threads {threads} --memory {mib}MiB &
worker=$!

# Finished parts are kept: the same task goes on where it was.
again() {{
    if [ "${{SLURM_RESTART_COUNT:-0}}" -ge {RETRIES} ]; then
        echo "worker $index: tried {RETRIES} times" >&2
        exit 1
    fi
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}" && exit 0
    exit 1
}}
# The time limit is near, or the node is wanted.
stop() {{
    trap '' USR1 TERM
    kill -TERM "$worker" 2>/dev/null
    wait "$worker"
    again
}}
trap stop USR1 TERM

wait "$worker"
code=$?
case $code in
    0) exit 0 ;;
    # Killed, failed or stopped: it may be tried again. 2 and 4 are final: a wrong call, too little memory.
    1 | 13[0-9] | 14[0-3]) again ;;
    *) exit $code ;;
esac
"#
    )
}

/// A manifest for `kubectl apply`: an Indexed Job. A worker that fails is started again; exit codes 2 and 4 end it.
///
/// # Errors
/// The run folder lies outside the mount.
pub(super) fn kubernetes(workers: &Workers, image: &str, claim: &str, mount: &str) -> Result<String> {
    let Workers { run, workers: all, threads, wait, .. } = workers;
    let path = std::path::Path::new(run);
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if !std::path::Path::new(mount).is_absolute() || !path.starts_with(mount) || climbs {
        return Err(Error::input("the run folder lies outside the volume")
            .expected("an absolute --mount, and a run folder in it, both as the container sees them")
            .found(format!("{run} and --mount {mount}")));
    }
    let (mib, granted) = (workers.mib(), workers.granted_mib());
    // JSON's strings are YAML's.
    let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
    // `$(` begins a variable in arguments of a container; `$$` is a dollar.
    let [image, claim, mount, run] = [text(image), text(claim), text(mount), text(&run.replace('$', "$$"))];
    Ok(format!(
        r#"# Workers of a batchmine job that waits for parts (mine --pieces external). Submit: kubectl apply -f FILE
apiVersion: batch/v1
kind: Job
metadata:
  name: batchmine-work
spec:
  completionMode: Indexed
  completions: {all}
  parallelism: {all}
  backoffLimitPerIndex: {RETRIES}
  podFailurePolicy:
    rules:
      # A wrong call, or too little memory: no worker can do better.
      - action: FailJob
        onExitCodes:
          containerName: batchmine
          operator: In
          values: [2, 4]
      # The node was drained: not the worker's fault.
      - action: Ignore
        onPodConditions:
          - type: DisruptionTarget
            status: "True"
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 30
      containers:
        - name: batchmine
          image: {image}
          command: [batchmine, work, {run}]
          args: [--index, $(JOB_COMPLETION_INDEX), --of, "{all}", --wait, "{wait}",
                 --threads, "{threads}", --memory, {mib}MiB]
          resources:
            requests: {{cpu: "{threads}", memory: {granted}Mi}}
            limits: {{memory: {granted}Mi}}
          volumeMounts:
            - {{name: runs, mountPath: {mount}}}
      volumes:
        - name: runs
          persistentVolumeClaim: {{claimName: {claim}}}
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(run: &str, all: u32) -> Workers {
        Workers { run: run.to_owned(), workers: all, threads: 4, memory: 1 << 30, wait: 60 }
    }

    #[test]
    fn an_array_is_no_longer_than_slurm_takes() {
        let script = slurm(&workers("/runs/it's", 2500), Some(3601), 1001);
        assert!(script.contains("#SBATCH --array=0-999\n#SBATCH --ntasks=1"), "{script}");
        assert!(script.contains("$(seq 0 1000 2499)"), "{script}");
        assert!(script.contains("#SBATCH --time=61\n"), "{script}");
        assert!(script.contains(r"batchmine work '/runs/it'\''s' "), "{script}");
        let short = slurm(&workers("/runs/a", 3), None, 1001);
        assert!(short.contains("--array=0-2\n") && !short.contains("--time"), "{short}");
    }

    #[test]
    fn a_run_outside_the_volume_is_refused() {
        for (run, mount) in [("/data/run", "/runs"), ("run", "/runs"), ("/runs/a", "runs"), ("/runs/../a", "/runs")] {
            assert!(kubernetes(&workers(run, 2), "image", "claim", mount).is_err(), "{run} {mount}");
        }
        let manifest = kubernetes(&workers("/runs/$(a)\"b", 2), "image", "claim", "/runs").unwrap();
        assert!(manifest.contains(r#"command: [batchmine, work, "/runs/$$(a)\"b"]"#), "{manifest}");
    }
}
