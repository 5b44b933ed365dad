/**
 * The one table of errors. A user's mistake, or a fault of the surroundings, is a `SluiceError` with a stable
 * code, a message that shows the offending value, and advice. Broken invariants of our own are assertions.
 *
 * `docs/errors.md` is generated from this table by `npm run docs`.
 */

interface ErrorEntry {
  /** What happened, for the documentation page. */
  readonly summary: string;
  /** What the user can do about it. */
  readonly advice: string;
}

export const ERROR_TABLE = {
  SLUICE_E_CONFIG_SYNTAX: {
    summary: 'A YAML file cannot be parsed.',
    advice: 'Mend the file at the line and column shown.',
  },
  SLUICE_E_CONFIG_INVALID: {
    summary: 'A configuration has an unknown key, or a value of the wrong type or range.',
    advice: 'Correct the key or value at the line and column shown; the nearest valid key is suggested.',
  },
  SLUICE_E_CONFIG_OVERRIDE: {
    summary: 'An override given with --set is malformed or names no key.',
    advice: 'Write --set section.key=value, with a key that the configuration knows.',
  },
  SLUICE_E_FILE_MISSING: {
    summary: 'A file or directory that was named does not exist or cannot be read.',
    advice:
      'Check the path: one of the command line starts from the current directory, one that a file names from that file.',
  },
  SLUICE_E_FILE_UNWRITABLE: {
    summary: 'A file or directory cannot be written.',
    advice:
      'Check permissions and ownership, or choose another directory; that of corpora is named by SLUICE_DATA.',
  },
  SLUICE_E_DISK_FULL: {
    summary: 'The disk ran out of space while writing.',
    advice: 'Free space, or choose another directory; what was complete before is intact.',
  },
  SLUICE_E_SAVE_FAILED: {
    summary: 'A checkpoint could not be written, and the run is to stop then (checkpoint.onFailure).',
    advice:
      'Mend what is told (room, permissions, the mount) and go on with sluice resume; the last checkpoint is intact. With checkpoint.onFailure: continue a run trains on meanwhile.',
  },
  SLUICE_E_TEMPORARY_DIRECTORY: {
    summary: 'The directory of temporary files does not exist, is none, or takes no new ones.',
    advice: 'Set TMPDIR to a directory that you may write, or unset it; the workers’ sockets are made there.',
  },
  SLUICE_E_WORKING_DIRECTORY: {
    summary: 'The directory that a command was started in is gone.',
    advice: 'Change to a directory that exists (`cd`), and repeat the command.',
  },
  SLUICE_E_TOO_MANY_FILES: {
    summary: 'The system lets this process open too few files for what is to be done.',
    advice: 'Raise the limit (`ulimit -n 1024`; with systemd, LimitNOFILE=), or start fewer workers.',
  },
  SLUICE_E_UNEXPECTED: {
    summary: 'Something failed in a way that was not foreseen.',
    advice:
      'Report it with the file that holds the stack (SLUICE_DEBUG=1 shows the stack at once). A run goes on from its last checkpoint by `sluice resume`.',
  },
  SLUICE_E_USAGE: {
    summary: 'The command line has an unknown command, flag or value.',
    advice: 'See `sluice --help`, or `sluice COMMAND --help` for one command.',
  },
  SLUICE_E_INTERRUPTED: {
    summary: 'A command was ended by Ctrl-C, SIGTERM or a hang-up before it was done.',
    advice: 'Run it again: what it had begun is gone on with, where it can be, and removed elsewhere.',
  },
  SLUICE_E_RUN_EXISTS: {
    summary: 'Training was asked to start in a directory that already holds a run.',
    advice: 'Go on with it by `sluice resume`, or choose another --run-dir or name.',
  },
  SLUICE_E_RUN_MISSING: {
    summary: 'A directory was named that holds no run.',
    advice: 'Name the directory that `sluice train` printed, the one with config.yaml and journal.jsonl.',
  },
  SLUICE_E_RUN_IN_USE: {
    summary: 'Another process that is alive owns the run directory.',
    advice:
      'Wait for it or stop it. If it ran on another machine that is gone for certain, delete the lock file shown.',
  },
  SLUICE_E_RUN_TAKEN_OVER: {
    summary:
      'Another process has taken the run over, since this one was silent for long or is of an earlier start.',
    advice:
      'Nothing is to be done where a process is named: the run goes on there, and this one has written nothing since. Where none is, `sluice inspect RUN` tells whether the run has ended, and `sluice resume` goes on.',
  },
  SLUICE_E_JOURNAL_DAMAGED: {
    summary: 'A line of the journal other than the last cannot be read.',
    advice: 'Look at the line shown; restore journal.jsonl from a copy, or mend the line by hand.',
  },
  SLUICE_E_NO_CHECKPOINT: {
    summary: 'A run was named that holds no valid checkpoint.',
    advice:
      'Restore the files that the message names from a copy; `sluice inspect` shows all. `sluice resume RUN --from-scratch` trains the run anew from step 0.',
  },
  SLUICE_E_DATASET_CHANGED: {
    summary: 'The prepared corpus is not the one that the run was trained on, which is not there any more.',
    advice:
      'Restore the prepared corpus, or the text and the recipe that it was made of and `sluice data prepare RECIPE.yaml`; or start a new run with `sluice train`.',
  },
  SLUICE_E_METRICS_DAMAGED: {
    summary: 'A line of metrics.jsonl other than a torn last one cannot be read.',
    advice: 'Look at the line shown; remove it or restore the file. Training itself does not depend on it.',
  },
  SLUICE_E_CURVE_INVALID: {
    summary: 'A recorded curve was named that holds none, or a line of it is not one of numbers.',
    advice:
      'Mend the line shown. A CSV needs a header with step and loss, and lines of numbers whose steps ascend; docs/spikes.md lists what else is read.',
  },
  SLUICE_E_CURVE_NAME: {
    summary: 'No column or tag of a recorded curve is known to be its loss, its gradient norm or its steps.',
    advice:
      'Name one of those in the message by --loss-tag or --norm-tag; a CSV’s column of steps is to be called step.',
  },
  SLUICE_E_CURVE_DAMAGED: {
    summary: 'A TensorBoard event file holds bytes that are not those that were written.',
    advice: 'Restore the file from a copy, or leave it out.',
  },
  SLUICE_E_RESUME_NEEDS_ALLOW: {
    summary: 'A resumed run was given a changed key that alters what the rest of the run does.',
    advice: 'Repeat the command with --allow KEY if that is meant; it is written to the journal.',
  },
  SLUICE_E_RESUME_KEY_FIXED: {
    summary:
      'A resumed run was given a changed key that its weights, its optimizer’s state or its data order depend on.',
    advice:
      'Leave the key as it was saved, or start a new run with `sluice train`; with --from it begins with the weights of this one.',
  },
  SLUICE_E_RESUME_ALLOW_INVALID: {
    summary:
      'A key was named with --allow that the configuration does not have, or whose change --allow has no say in.',
    advice: 'Name a key of the list in the message, or leave --allow out.',
  },
  SLUICE_E_CHECKPOINT_INCOMPLETE: {
    summary: 'A directory holds no whole checkpoint: saving it did not come to its end.',
    advice:
      'Use the checkpoint before it, as `sluice resume` does by itself. With several machines, the run directory must be shared by all, or the run started with --collect.',
  },
  SLUICE_E_CHECKPOINT_DAMAGED: {
    summary: 'The files of a checkpoint are not those that were saved.',
    advice:
      'Use the checkpoint before it, as `sluice resume` does by itself, or restore the files named from a copy.',
  },
  SLUICE_E_CHECKPOINT_VERSION: {
    summary: 'A checkpoint was written in a version of the format that this program does not know.',
    advice: 'Use the version of Sluice that wrote it, or a newer one.',
  },
  SLUICE_E_CHECKPOINT_MISMATCH: {
    summary: 'A checkpoint has not the tensor that was asked of it, or has it in another shape.',
    advice: 'Load it with the model configuration that it was saved with; `sluice inspect` shows it.',
  },
  SLUICE_E_WEIGHTS_MISMATCH: {
    summary: 'The weights that a run is to begin with do not fit its model.',
    advice:
      'Give `model` the sizes of those weights; tensors that they lack can begin anew, with `--from-missing initialize`.',
  },
  SLUICE_E_OPTIMIZER_STATE: {
    summary:
      'The state of an optimizer is to be kept, but the weights to begin with came without one, or with that of another kind.',
    advice:
      'Begin with a checkpoint that a run of the same optimizer.kind has saved, or with a new optimizer (initialize.optimizer: fresh).',
  },
  SLUICE_E_WEIGHTS_CHANGED: {
    summary: 'A run starts again from the weights that it began with, and these are others now.',
    advice: 'Restore them, or start a new run with `sluice train`.',
  },
  SLUICE_E_SAFETENSORS_INVALID: {
    summary: 'A file is not a valid safetensors file.',
    advice: 'Fetch or write the file again; it may be cut off, or of another format.',
  },
  SLUICE_E_HF_CONFIG: {
    summary: 'The config.json of a Hugging Face directory is missing a key or has a value of the wrong type.',
    advice: 'Compare it with the config.json of the model’s publisher.',
  },
  SLUICE_E_HF_UNSUPPORTED: {
    summary:
      'A Hugging Face model has a part that Sluice does not have, or Sluice’s model one that the layout lacks.',
    advice:
      'Take a model without what is named, or export with another --layout; docs/huggingface.md lists what each says.',
  },
  SLUICE_E_HF_TENSORS: {
    summary: 'The tensors of a Hugging Face directory are not those that its config.json asks for.',
    advice: 'Fetch the directory again, whole; config.json and the weights must be of one model.',
  },
  SLUICE_E_HF_PYTORCH_FILE: {
    summary: 'A Hugging Face directory holds its weights as a Python pickle, which only Python can read.',
    advice: 'Write them as safetensors once, with the Python command in the message.',
  },
  SLUICE_E_HF_LFS_POINTER: {
    summary: 'A file of a Hugging Face directory is a pointer of Git LFS: the file itself was not fetched.',
    advice: 'Fetch it by `git lfs pull` in that directory, or download the model anew.',
  },
  SLUICE_E_HF_NON_FINITE: {
    summary: 'A weight of a Hugging Face model is not a finite number.',
    advice:
      'Take another copy of the model: the run that wrote this one had diverged, or the file is damaged.',
  },
  SLUICE_E_HF_RANGE: {
    summary: 'A weight is too large for the half-precision type that it is to be written in.',
    advice: 'Export with --dtype bf16 or f32.',
  },
  SLUICE_E_OUTPUT_EXISTS: {
    summary: 'A directory to be written holds files already, or a file to be made is there.',
    advice: 'Choose another one, or remove what is there.',
  },
  SLUICE_E_TOKEN_IDS_INVALID: {
    summary: 'A file of token ids is not a list of rows of one length, or holds an id beyond the vocabulary.',
    advice: 'Write rows of token ids as JSON, for instance [[1, 2, 3], [4, 5, 6]].',
  },
  SLUICE_E_TOKENIZER_MISSING: {
    summary: 'Text is to be read or written by a model that comes without a tokenizer.',
    advice:
      'Put the model’s tokenizer.json beside its config.json, and import it again; a run’s checkpoint finds it in the run’s directory, so copy that whole.',
  },
  SLUICE_E_TOKENIZER_CHANGED: {
    summary: 'A file of the tokenizer that lies with a model is not the one that was saved with it.',
    advice:
      'Restore the file named from a copy: with another tokenizer the model’s tokens mean something else.',
  },
  SLUICE_E_TOKENIZER_MISMATCH: {
    summary: 'A corpus was prepared with another tokenizer than the model’s.',
    advice:
      'Prepare it again with the model’s tokenizer.json in the recipe (tokenizer: { kind: file, path: … }).',
  },
  SLUICE_E_DATA_UNKNOWN: {
    summary: 'A model was to be evaluated whose corpus is not known, and no text was named.',
    advice: 'Name a file of text with --text, or a prepared corpus with --data.',
  },
  SLUICE_E_WORKER_DIED: {
    summary: 'A worker process ended while it was needed.',
    advice: 'Look at its last lines above; nothing before the last checkpoint is lost: resume the run.',
  },
  SLUICE_E_EXPERIMENT_RUN: {
    summary: 'Runs of an experiment ended by something that is no result.',
    advice:
      'See what the message says of each, and give the same command again: what is done is not run again.',
  },
  SLUICE_E_FAULT_REPEATED: {
    summary:
      'A fault came again where it had come before, or too often without a new checkpoint, so the run stopped.',
    advice:
      'Mend what the message names: the same step on the same weights fails again. After that, resume the run; nothing before the last checkpoint is lost.',
  },
  SLUICE_E_COORDINATOR_GONE: {
    summary: 'The process that coordinated a run has ended without giving the run back.',
    advice:
      'Go on with the run by `sluice resume` or the same `sluice launch`. What it may have left on its hosts ends by itself; at once: `sluice stop RUN --hosts`.',
  },
  SLUICE_E_COORDINATOR_SILENT: {
    summary: 'The coordinator of a run does not answer.',
    advice:
      'It may be starting, suspended (Ctrl-Z) or cut off: look at the process and the host that the message names, and try again.',
  },
  SLUICE_E_COORDINATOR_ELSEWHERE: {
    summary: 'The coordinator of a run is on another machine and answers only there.',
    advice: 'Give the same command on the host that the message names.',
  },
  SLUICE_E_COORDINATOR_DENIED: {
    summary: 'The coordinator of a run may be asked only by the user who started it.',
    advice: 'Give the command as the owner of the run’s directory.',
  },
  SLUICE_E_PROCESSES_LEFT: {
    summary: 'Processes of a run could not be ended, or a host could not be looked at.',
    advice: 'Mend what the message says of each host, and give the command again: it ends only what is left.',
  },
  SLUICE_E_KEY_FILE: {
    summary: 'The key of a run’s connections cannot be read, is none, or is open to others.',
    advice: 'Name the key file that `sluice launch` made, on a path that this host sees; `chmod 600` it.',
  },
  SLUICE_E_HOST_FILE: {
    summary: 'The file of hosts cannot be read, or a line of it is not understood.',
    advice:
      'Write a host a line: NAME [slots=N] [address=NUMBER] [node=PATH] [sluice=PATH]; or name a configuration with `hosts.on: ssh`.',
  },
  SLUICE_E_SSH_FAILED: {
    summary: 'An agent could not be started through ssh.',
    advice:
      'Try what was executed by hand (`sluice launch --dry-run` shows it); keys and configuration are those of your ssh.',
  },
  SLUICE_E_HOST_DIFFERS: {
    summary: 'A host would run another program, or compute with another arithmetic, than the coordinator.',
    advice:
      'Install the same version on all hosts, built for CPUs with a fused multiply-add (`sluice doctor` shows both). With `cuda`, take GPUs of one kind.',
  },
  SLUICE_E_INCARNATION_OLD: {
    summary:
      'An agent of an earlier incarnation wants to join a run that a later one of its node has joined.',
    advice:
      'It is left over from before a restart and ends by itself. If it is the one that is meant, give it a greater SLUICE_INCARNATION.',
  },
  SLUICE_E_NODE_NAME_TAKEN: {
    summary: 'Two machines want to join a run under one name.',
    advice: 'Give each its own name by `--node`.',
  },
  SLUICE_E_SERVER_UNREACHABLE: {
    summary: 'A server that a run is told to cannot be reached, or does not take what it is told.',
    advice:
      'The message says which, and what it answered. Nothing is lost: what was not sent is in the run’s logs, and is sent the next time.',
  },
  SLUICE_E_ADDRESS_UNREACHABLE: {
    summary: 'A host would be known to others by an address at which they cannot reach it.',
    advice: 'Say by which number others reach it: `--advertise ADDRESS`, or `address=` in the file of hosts.',
  },
  SLUICE_E_VERIFY_FAILED: {
    summary: 'A run that was abused came to other weights than the quiet one, or did not come to its end.',
    advice:
      'Look at the runs that were kept, from the step that is named on; the same seed draws the same faults.',
  },
  SLUICE_E_HOSTS_TOO_FEW: {
    summary: 'The hosts of a run have no room for its workers, or did not come in time.',
    advice: 'Add hosts or slots, lower parallel.workers, or wait longer (faults.joinSeconds).',
  },
  SLUICE_E_HOSTS_APART: {
    summary: 'Hosts of a run reach its coordinator, but not each other.',
    advice:
      'The run goes on without one of them, where others are left. See to firewalls and routes between the hosts that the message names, and to `address=` or --advertise; `sluice doctor --hosts` tries all pairs.',
  },
  SLUICE_E_NON_FINITE: {
    summary:
      'Loss or gradient was not a finite number for many steps in a row, or weights that were to be saved are not, so training stopped.',
    advice:
      'Run the command of the message, which goes on from the newest sound checkpoint at a lower rate; lower it further where that is not enough.',
  },
  SLUICE_E_SPIKE: {
    summary:
      'A spike came that the run is to stop for (`spikes.policy`), or that did not end by what was done about it.',
    advice:
      'See `sluice inspect RUN` for what moved first, and docs/spikes.md for what may be done; the command of the message goes on from before the spike.',
  },
  SLUICE_E_WRONG_ARITHMETIC: {
    summary: 'A step came out with other bits when it was computed again: a machine computes wrongly.',
    advice:
      'Take the named machine out of the run and test its memory and processors; `sluice resume` goes on without it. `sluice replay RUN --step N` computes a step again by hand.',
  },
  SLUICE_E_WORKERS_DISAGREE: {
    summary: 'Workers that must have the same number, bit by bit, have different ones.',
    advice:
      'One of them reads or computes something else than the others: compare the prepared corpora of the hosts named (`sha256sum`), and test their memory and processors. `sluice resume` goes on from the last checkpoint, which all agreed on.',
  },
  SLUICE_E_WORKERS_INVALID: {
    summary: 'The number of workers is not a power of two that divides parallel.lanes.',
    advice: 'Choose 1, 2, 4, 8… up to parallel.lanes, and a power of two for parallel.lanes.',
  },
  SLUICE_E_BATCH_INDIVISIBLE: {
    summary: 'The global batch does not divide into grains, or the grains into lanes.',
    advice: 'Make batch.sequences a multiple of batch.grainSequences × parallel.lanes.',
  },
  SLUICE_E_BATCH_RAMP_INVALID: {
    summary:
      'The sizes that the batch grows through do not lead to the whole batch, or do not divide as it does.',
    advice:
      'Make batch.ramp.from, and batch.ramp.increment if there is one, multiples of batch.grainSequences × parallel.lanes, with which batch.sequences is reached: from + n · increment, or from · 2ⁿ.',
  },
  SLUICE_E_EXPERT_PARALLEL_INVALID: {
    summary: 'parallel.expertParallel divides neither the number of workers nor that of the experts.',
    advice:
      'Choose an expertParallel that divides both parallel.workers and model.experts.count; 1 without experts.',
  },
  SLUICE_E_SCHEDULE_INVALID: {
    summary: 'The warm-up or the decay of the learning rate does not fit into the steps of the run.',
    advice:
      'Change schedule.warmupSteps, schedule.decaySteps or training.steps; of lengths in tokens, these are the steps that they come to. To take only the first steps of a longer run: --until-step.',
  },
  SLUICE_E_OPTIMIZER_INVALID: {
    summary: 'Settings of the optimizer do not fit the model.',
    advice:
      'Follow what the message says of the key and of the model; docs/optimizers.md tells what each needs.',
  },
  SLUICE_E_SYNCHRONIZE_INVALID: {
    summary: 'Replicas that train apart cannot do what is asked of them.',
    advice:
      'Follow what the message says of the key, or leave parallel.synchronize out; docs/slow-links.md tells what it does and what it goes with.',
  },
  SLUICE_E_VOCABULARY_TOO_SMALL: {
    summary: 'The model has fewer embedding rows than the tokenizer has tokens.',
    advice: 'Set model.vocabularySize to at least the size of the tokenizer’s vocabulary.',
  },
  SLUICE_E_DATA_EMPTY: {
    summary: 'The sources of a data recipe hold no text.',
    advice: 'Check the paths, the file patterns and the field or column name of each source.',
  },
  SLUICE_E_DATA_SPLIT_EMPTY: {
    summary:
      'No document fell into the training or the validation split, or a split was asked for that a corpus lacks.',
    advice:
      'Change validation.fraction, or cut files into more documents with documentSeparator; a fraction of 0 makes no validation split. `evaluate` and `diagnose` take --split train.',
  },
  SLUICE_E_DATA_TOO_SMALL: {
    summary: 'A split holds fewer tokens than one training sequence.',
    advice:
      'Use a shorter data.sequenceLength, or more text; of the validation split, also another validation.fraction (0 trains without validation).',
  },
  SLUICE_E_DATA_ENCODING: {
    summary: 'A text file holds bytes that are not text in its encoding.',
    advice:
      'In a recipe, set encoding (of text files) to what the file is in, or invalidBytes to replace or drop. Other texts must be UTF-8: `iconv -f UTF-16 -t UTF-8` makes it of UTF-16.',
  },
  SLUICE_E_DATA_COMPRESSION: {
    summary:
      'A compressed file is damaged or cut off, is of a format that is not read, or is not what its name says.',
    advice:
      'Give the file the ending of what it holds (.gz, .zst, .bz2 and .xz are read), or fetch, unpack or pack it again.',
  },
  SLUICE_E_DATA_TWICE: {
    summary:
      'A folder holds a file both packed and unpacked, or packed in two ways, so that its text would be read twice.',
    advice: 'Remove one of the two, or leave it out by `exclude` in the recipe.',
  },
  SLUICE_E_DATA_POINTER: {
    summary: 'A file holds no data, but a pointer of Git LFS to data that was not fetched.',
    advice: 'Run `git lfs pull` in the repository that the file is in.',
  },
  SLUICE_E_DATA_RECORD: {
    summary: 'A record of a JSONL or Parquet file cannot be read, or lacks the text field.',
    advice:
      'Mend the record shown, or name the right field or column in the recipe. A file that holds no data is left out by `exclude`.',
  },
  SLUICE_E_DATA_PATTERN: {
    summary: 'A regular expression of a recipe takes too long over a document.',
    advice:
      'Write it so that it can match a text in one way only: no repetition of a repetition, such as `(a+)+` or `(\\s*,?)*`, and nothing that may be matched by either of two neighbours.',
  },
  SLUICE_E_DATA_NOT_PREPARED: {
    summary: 'A directory holds no prepared corpus, or an unfinished one.',
    advice: 'Run `sluice data prepare RECIPE.yaml`.',
  },
  SLUICE_E_DATA_DAMAGED: {
    summary: 'A file of a prepared corpus is missing or does not match its manifest.',
    advice: 'Run `sluice data prepare RECIPE.yaml --force` to prepare the corpus anew.',
  },
  SLUICE_E_TOKENIZER_INVALID: {
    summary: 'A tokenizer.json cannot be used.',
    advice: 'Give a tokenizer.json of the Hugging Face format that has an end-of-text token.',
  },
  SLUICE_E_MIXTURE_TOKENIZER: {
    summary: 'The corpora of a mixture have different tokenizers, so that one id would mean different texts.',
    advice:
      'Prepare one of them, and give the others its tokenizer in their recipes: `tokenizer: { kind: file, path: data/prepared/NAME/tokenizer.json }`.',
  },
  SLUICE_E_MIXTURE_TWICE: {
    summary: 'Two recipes of a mixture have one name, and so one folder.',
    advice:
      'Give each recipe a `name` of its own; a corpus that is to weigh more needs a larger weight, not a second entry.',
  },
  SLUICE_E_MIXTURE_PAST: {
    summary: 'The weights of a mixture were changed for what the run has read already.',
    advice:
      'Leave the entries of `data.mixture.schedule` up to there as they were, and let new weights begin at the number of tokens that the message names, or later: otherwise texts would be read twice or left out.',
  },
  SLUICE_E_TOKEN_UNKNOWN: {
    summary: 'A token was named that the corpus’s tokenizer does not have.',
    advice:
      'Write the token as the tokenizer.json has it; `data.beginning` usually names a special token, such as `<|endoftext|>` or `<s>`.',
  },
  SLUICE_E_TOKENIZER_LIBRARY: {
    summary: 'Hugging Face’s tokenizers library does not load on this machine, or its thread does not run.',
    advice:
      'Install again (npm ci), or work on Linux, macOS or Windows with x64 or arm64. Byte-level BPE without a normalizer, as tokenizers trained here are, does without the library.',
  },
  SLUICE_E_TASK_LENGTH: {
    summary:
      'A prompt of a long-context task was asked for that is shorter than what is hidden in it and the question.',
    advice: 'Give a larger --length, or hide fewer needles (--needles) or chains (--chains).',
  },
  SLUICE_E_TASK_HAYSTACK: {
    summary:
      'The text that needles are to be hidden in holds the words of the needles itself, or no sentence.',
    advice: 'Take `--haystack noise`, another text (--text, --data), a smaller --length, or fewer needles.',
  },
  SLUICE_E_TOKENIZER_TEXT: {
    summary: 'A text holds something that the tokenizer has no token for.',
    advice:
      'Take a tokenizer with a token for what is unknown, or with tokens for all bytes, or delete such characters (remove, in the recipe’s source).',
  },
  SLUICE_E_DEBIAN_TOOLS_MISSING: {
    summary: 'A recipe takes text from a Debian package, and apt-get or dpkg is not installed.',
    advice: 'Prepare the corpus on Debian or Ubuntu and copy data/prepared, or take another recipe.',
  },
  SLUICE_E_DEBIAN_DOWNLOAD: {
    summary: 'A Debian package could not be downloaded or unpacked.',
    advice: 'Run `apt-get update`, check the network and the package name, and try again.',
  },
  SLUICE_E_BACKEND_MISSING: {
    summary: 'A TensorFlow.js backend was asked for that is not known, or not installed.',
    advice: 'See `sluice backend list`, and install it by `sluice backend install NAME`, or choose another.',
  },
  SLUICE_E_BACKEND_FAILED: {
    summary: 'A TensorFlow.js backend is installed but does not start.',
    advice:
      'Install it again (`sluice backend install NAME`) and look at `sluice doctor`, or choose another.',
  },
  SLUICE_E_BACKEND_INSTALL: {
    summary: 'A step of the installation of a TensorFlow.js backend failed.',
    advice: 'Read the lines of the failed program in the message; what was fetched is kept for the next try.',
  },
  SLUICE_E_BACKEND_UNSUPPORTED: {
    summary: 'A TensorFlow.js backend cannot do what was asked of it, or not on this machine.',
    advice: 'Choose another backend; docs/backends.md says what each one can do.',
  },
  SLUICE_E_BACKEND_DEVICES: {
    summary: 'There are more workers on a machine than GPUs for them.',
    advice: 'Start as many workers as CUDA_VISIBLE_DEVICES, or the machine, has GPUs.',
  },
  SLUICE_E_CUDA: {
    summary:
      'CUDA, or its emulator, cannot do what was asked: a library is missing, a kernel does not compile, or it failed.',
    advice:
      'The message names the call and the reason. For the emulator install a C++17 compiler; a fault within a kernel names its line.',
  },
  SLUICE_E_CUDA_KERNEL: {
    summary: 'The backend cuda has no kernel for an operation of this shape.',
    advice:
      'The message names the size, and the key or the operation. Choose another size (docs/gpu.md lists what there is under Bits), precision f32 where a width is no multiple of 8, or another backend.',
  },
  SLUICE_E_NCCL: {
    summary: 'NCCL, by which GPUs send each other their memory, failed, or cannot be opened.',
    advice:
      'The message has what NCCL said; NCCL_DEBUG=INFO makes it say more. SLUICE_NCCL=off sends everything by way of the host.',
  },
  SLUICE_E_PLACE_UNKNOWN: {
    summary:
      'An agent was not told where it belongs: the coordinator’s address, its node’s rank, or how many nodes there are.',
    advice:
      'Give --join, --node-rank and --nodes, or start it by one of the schedulers whose variables are understood; docs/clusters.md lists them.',
  },
  SLUICE_E_PLACE_INVALID: {
    summary: 'The variables that a scheduler gives to each node make no sense, or contradict each other.',
    advice:
      'Unset those that are left over from something else, or give --join, --node-rank and --nodes, which come before all variables.',
  },
  SLUICE_E_PLACE_SHARED: {
    summary: 'More than one agent was started on a node.',
    advice:
      'Start one process a node (srun --ntasks-per-node=1, mpirun --map-by ppr:1:node --bind-to none, torchrun --nproc-per-node 1): the agent starts the workers.',
  },
  SLUICE_E_STARTER_MISSING: {
    summary: 'The program that hands a run to a scheduler is not installed here.',
    advice:
      'Run the command where `sbatch` or `kubectl` is on the PATH, or take the text that --dry-run prints there.',
  },
  SLUICE_E_STARTER_REFUSED: {
    summary: 'A scheduler did not take what it was given.',
    advice: 'Its own words are in the message; --dry-run prints what was handed to it.',
  },
  SLUICE_E_STARTER_INVALID: {
    summary: 'A scheduler could not be told what was asked for.',
    advice: 'Correct the value that the message names; `sluice launch --help` says what each flag takes.',
  },
  SLUICE_E_COLLECTIVE_TIMEOUT: {
    summary: 'A collective operation did not complete within its limit.',
    advice:
      'Look at the ranks that the message names: one is stuck, slow or gone. Raise the limit if it is only slow.',
  },
  SLUICE_E_COLLECTIVE_MISMATCH: {
    summary: 'Ranks of a group disagree about what they are doing together: operation, type or sizes.',
    advice: 'Check that all workers run the same version of Sluice on the same configuration.',
  },
  SLUICE_E_WORKER_LOST: {
    summary: 'A worker process, or the way to it, is gone.',
    advice:
      'Read the log of the worker that the message names; then resume the run from its last checkpoint.',
  },
  SLUICE_E_WORKER_TIMEOUT: {
    summary: 'A worker did not answer within the limit for this kind of wait.',
    advice: 'The message says what the worker was doing. Raise the limit of that kind if it is only slow.',
  },
  SLUICE_E_MODEL_TOO_LARGE: {
    summary:
      'The weights of a model, or of all workers of a host, are many times its memory, a GPU has less than its worker’s weights and moments take, or no array is so long.',
    advice:
      'Take a smaller model, or a host or GPUs with more memory; in training, fewer workers a host, more GPUs, or more workers that share the experts (parallel.expertParallel): `sluice plan` tells what a run needs.',
  },
  SLUICE_E_OUT_OF_MEMORY: {
    summary: 'An array could not be allocated.',
    advice:
      'Make the model, data.sequenceLength or batch.grainSequences smaller, or take fewer workers or threads; `sluice plan` tells what a run needs.',
  },
  SLUICE_E_WORKER_FAILED: {
    summary: 'A worker met an error that it does not know how to explain.',
    advice: 'The message holds the error of the worker; please report it as a bug.',
  },
  SLUICE_E_PORT_TAKEN: {
    summary: 'An address to listen on is already in use.',
    advice: 'Choose another port, or 0 to let the system choose; or stop the process that holds it.',
  },
  SLUICE_E_PROTOCOL_VERSION: {
    summary: 'Two processes of a run speak different versions of the protocol.',
    advice: 'Install the same version of Sluice on all machines.',
  },
  SLUICE_E_CHECKPOINT_PROBE: {
    summary: 'A loaded checkpoint does not compute the loss that it computed when it was saved.',
    advice:
      'The content is intact, so code, backend or configuration changed what the model computes: use those of the save.',
  },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** An error that a user can act on. `details` are machine-readable and appear in `--json` output. */
export class SluiceError extends Error {
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>>;
  /** What the user can do: the table's, unless what failed knows better. */
  readonly advice: string;

  constructor(
    code: ErrorCode,
    message: string,
    options: { details?: Record<string, unknown>; cause?: unknown; advice?: string } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'SluiceError';
    this.code = code;
    this.details = options.details ?? {};
    this.advice = options.advice ?? ERROR_TABLE[code].advice;
  }

  toJSON(): Record<string, unknown> {
    return { code: this.code, message: this.message, advice: this.advice, details: this.details };
  }
}

/** Throws when an invariant of the program itself is broken; never for a user's mistake. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`Broken invariant: ${message}`);
}
