#!/usr/bin/env python3
"""Train with sentence-transformers' trainer, kill it in the midst of an epoch, resume, and compare the losses.

    python resume.py RUN PAIRS [PROCESSES]

RUN was mined of the Parquet files in the folder PAIRS, with several epochs, and with a batch size that PROCESSES
divides. Three trainings of two epochs, each in processes of its own: one undisturbed, one that ends itself in its
second epoch as a kill would, and one that resumes that one. The steps that the last one plays must have the losses of
the first. There is an evaluation after each epoch.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

EPOCHS = 2


def train(run, pairs, out, stop_at, resume):
    import datasets
    import sentence_transformers as st
    import torch
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import TrainerCallback

    import batchmine

    mined = batchmine.open(run)
    files = sorted(map(str, pathlib.Path(pairs).glob("*.parquet")))
    dataset = datasets.load_dataset("parquet", data_files=files, split="train").select_columns(["query", "positive"])
    letters = {chr(code): code - 32 for code in range(32, 127)} | {"?unknown": 95}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="?unknown"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    torch.manual_seed(1)
    static = st.sentence_transformer.modules.StaticEmbedding(tokenizer, embedding_dim=16)
    model = st.SentenceTransformer(modules=[static], device="cpu")
    world = int(os.environ.get("WORLD_SIZE", 1))
    sampler = mined.sentence_transformers(dataset)
    arguments = st.SentenceTransformerTrainingArguments(
        output_dir=out,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=sampler.largest // world,
        per_device_eval_batch_size=50,
        batch_sampler=sampler,
        learning_rate=0.05,
        logging_steps=1,
        save_strategy="steps",
        save_steps=5,
        eval_strategy="epoch",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )

    class Stop(TrainerCallback):
        def on_log(self, args, state, control, logs, **_):
            if "loss" in logs and state.is_world_process_zero:
                epoch = (state.global_step - 1) // steps
                print(f"step {state.global_step} epoch {epoch} loss {logs['loss']!r}", flush=True)

        def on_step_end(self, args, state, control, **_):
            if stop_at and state.global_step == stop_at:
                os._exit(9)

    trainer = st.SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=dataset.select(range(120)),
        loss=MultipleNegativesRankingLoss(model, gather_across_devices=world > 1),
        callbacks=[Stop()],
    )
    steps = len(trainer.get_train_dataloader())
    trainer.train(resume_from_checkpoint=resume)


def losses(run, pairs, out, processes, stop_at=0, resume=False):
    own = [__file__, "--train", str(run), str(pairs), out, str(stop_at), str(int(resume))]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", "29577"]
    command = [sys.executable, *(launch if processes > 1 else []), *own]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode != 0 and not stop_at:
        sys.exit(done.stderr[-4000:])
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("step ")]
    return {int(line[1]): (int(line[3]), line[5]) for line in lines}


def main():
    run, pairs = sys.argv[1:3]
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    with tempfile.TemporaryDirectory() as folder:
        whole = losses(run, pairs, f"{folder}/whole", processes)
        steps = len(whole) // EPOCHS
        stop_at = steps + steps // 2 + 2
        begun = losses(run, pairs, f"{folder}/killed", processes, stop_at=stop_at)
        resumed = losses(run, pairs, f"{folder}/killed", processes, resume=True)
    assert max(begun) < stop_at + 1 and steps < min(resumed) < max(whole), (min(resumed), stop_at)
    for step, loss in {**begun, **resumed}.items():
        assert whole[step] == loss, f"step {step}: {loss}, undisturbed {whole[step]}"
    print(
        f"ok {processes} processes: {len(whole)} steps in {EPOCHS} epochs, killed at {stop_at}, resumed at "
        f"{min(resumed)}, {len(resumed)} losses equal"
    )


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(*sys.argv[2:5], int(sys.argv[5]), bool(int(sys.argv[6])))
    else:
        main()
