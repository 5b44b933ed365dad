/** A model loaded from a checkpoint or a Hugging Face directory: logits, perplexity and text. */

import { randomKey, SluiceError } from '@sluice/core';
import {
  type Dataset,
  decodeContinuation,
  openDataset,
  type ValidationPart,
  validationShares,
} from '@sluice/data';
import { computation } from '@sluice/engine';
import { type Decoder, type LossParts, nextTokens, sampleToken, validateCudaSizes } from '@sluice/model';
import { type CorpusLoss, type Grain, type SavedUpdate, type TokenSource, weightedMean } from '@sluice/train';
import { type Diagnosis, type DiagnosisOptions, diagnose } from './diagnosis.ts';
import { type Haystack, noiseHaystack, textHaystack } from './longContext/haystack.ts';
import {
  type LongContextOptions,
  type LongContextResult,
  retrieveFromContext,
} from './longContext/longContext.ts';
import { grainsOf, partsBetween, textRemainder, textSource } from './scoring.ts';
import { promptTokens, type Reading, type TextCodec } from './textCodec.ts';

export interface GenerateOptions {
  readonly prompt: string;
  /** Tokens to add at most; generation also ends at an end-of-text token. */
  readonly maxTokens: number;
  /** 0 for the most likely token each time. */
  readonly temperature: number;
  readonly topK?: number | undefined;
  readonly seed: number;
  /** Ends the text where it is. */
  readonly signal?: AbortSignal | undefined;
}

export interface Generated {
  /** The new text, without the prompt. */
  readonly text: string;
  /** Number of new tokens. */
  readonly tokens: number;
}

export interface EvaluateOptions {
  readonly split: 'train' | 'validation';
  /** A prepared corpus; the one that the model was trained on when left out. */
  readonly dataDirectory?: string | undefined;
  /** Sequences to score; the whole split when left out. */
  readonly sequences?: number | undefined;
  /** Tokens of a sequence; as many as in training when left out. */
  readonly sequenceLength?: number | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export type EvaluateTextOptions = Pick<EvaluateOptions, 'sequenceLength' | 'onProgress'>;

/** What to measure; the sequences are those that `evaluate` or `evaluateText` would score first. */
export interface DiagnoseOptions extends Omit<DiagnosisOptions, 'update'> {
  readonly split: EvaluateOptions['split'];
  readonly dataDirectory?: string | undefined;
  /** In place of a corpus. */
  readonly text?: string | undefined;
  /** Tokens of a sequence; as many as in training when left out, but at most 4096. */
  readonly sequenceLength?: number | undefined;
}

/** What needles are hidden in: noise sentences, a text, or a corpus. */
export type HaystackChoice =
  | { readonly kind: 'noise' }
  | { readonly kind: 'text'; readonly text: string }
  | ({ readonly kind: 'corpus' } & Pick<EvaluateOptions, 'split' | 'dataDirectory'>);

export interface Evaluated {
  /** Mean cross-entropy, nats a token; of a mixture the mean of its corpora's by their weights. */
  readonly loss: number;
  readonly perplexity: number;
  readonly tokens: number;
  /** Of each corpus, where the model was trained on a mixture. */
  readonly corpora?: readonly (CorpusLoss & { readonly perplexity: number })[];
}

/** Longest sequence that is measured without being asked for: that of the paper. */
const LONGEST_DIAGNOSED = 4096;

/** A corpus, or those of a mixture with their weights. */
export interface TrainedCorpora {
  readonly datasets: readonly Dataset[];
  readonly weights: readonly number[];
}

export interface InferenceParts {
  /** Longest sequence that the model is meant for, in tokens. */
  readonly sequenceLength: number;
  /** How it read its corpus, where it was trained here. */
  readonly reading?: Reading | undefined;
  /** Called when text is first asked for. */
  readonly loadCodec: () => Promise<TextCodec>;
  /** Opens the corpora that the model was trained on; left out for a model that was not trained here. */
  readonly openCorpora?: (() => TrainedCorpora) | undefined;
  /** Measures the last update of the weights. */
  readonly measureUpdate: () => Promise<SavedUpdate>;
  /** Gives the memory of the weights back: that of a device is not collected. */
  readonly release?: (() => void) | undefined;
}

export class InferenceModel {
  readonly decoder: Decoder;
  readonly sequenceLength: number;
  /** What gives its results: what runs when it is loaded. */
  readonly computedBy = computation();
  readonly #parts: InferenceParts;
  #codec: TextCodec | undefined;
  #corpora: TrainedCorpora | undefined;

  constructor(decoder: Decoder, parts: InferenceParts) {
    this.decoder = decoder;
    this.sequenceLength = parts.sequenceLength;
    this.#parts = parts;
  }

  /**
   * Logits of every position of one sequence, [T·V].
   * @param tokens ids below the vocabulary's size
   */
  logits(tokens: Int32Array): Float32Array {
    const logits_TV = this.decoder.logits({ inputs: tokens, sequences: 1 });
    const values = logits_TV.dataSync<'float32'>().slice();
    logits_TV.dispose();
    return values;
  }

  /**
   * The model's tokenizer, and the tokens that begin and end a text.
   * @throws SLUICE_E_TOKENIZER_CHANGED, SLUICE_E_VOCABULARY_TOO_SMALL, and the errors of `codecOf`
   */
  async codec(): Promise<TextCodec> {
    if (this.#codec) return this.#codec;
    const codec = await this.#parts.loadCodec();
    this.#checkVocabulary(codec.tokenizer.vocabularySize, 'its tokenizer');
    this.#codec = codec;
    return codec;
  }

  /**
   * Continues a prompt. The same seed gives the same text. Where prompt and text together grow longer than the model is
   * meant for, the older half of what it sees is dropped, each time it is full.
   */
  async generate({ prompt, maxTokens, seed, signal, ...sampling }: GenerateOptions): Promise<Generated> {
    const codec = await this.codec();
    const { tokenizer, stop } = codec;
    const key = randomKey(seed, 'generate');
    const tokens = promptTokens(codec, this.#parts.reading ?? {}, prompt);
    const start = tokens.length;
    const next = nextTokens(this.decoder, Math.min(this.sequenceLength, start + maxTokens));
    while (tokens.length - start < maxTokens && !signal?.aborted) {
      // Rows of the embedding beyond the tokenizer's tokens are padding and have no text.
      const logits = next(tokens).subarray(0, tokenizer.vocabularySize);
      const token = sampleToken(logits, sampling, key, tokens.length);
      if (stop.has(token)) break;
      tokens.push(token);
      // Lets a signal be handled between tokens.
      await new Promise(setImmediate);
    }
    const text = decodeContinuation(tokenizer, tokens.slice(0, start), tokens.slice(start));
    return { text, tokens: tokens.length - start };
  }

  /**
   * Mean cross-entropy of the first sequences of a split, in plain order.
   * @throws SLUICE_E_DATA_UNKNOWN when there is no corpus to take, SLUICE_E_TOKENIZER_MISMATCH, SLUICE_E_CUDA_KERNEL, SLUICE_E_DATA_…
   */
  async evaluate({ split, sequences, onProgress, ...options }: EvaluateOptions): Promise<Evaluated> {
    this.#checkSizes();
    const sequenceLength = options.sequenceLength ?? this.sequenceLength;
    const parts = await this.#corpusParts(split, options.dataDirectory, sequenceLength);
    const all = parts.map(({ source }) => source.numSequences);
    const totals = sequences === undefined ? all : validationShares(parts, sequences);
    const whole = totals.reduce((a, b) => a + b, 0);
    let done = 0;
    const corpora: (Evaluated & { name: string })[] = [];
    for (const [i, { name, source }] of parts.entries()) {
      const before = done;
      const scored = await this.#score(source, totals[i]!, undefined, (ofPart) => {
        done = before + ofPart;
        onProgress?.(done, whole);
      });
      corpora.push({ name, ...scored });
    }
    if (corpora.length === 1) {
      const { name, ...only } = corpora[0]!;
      return only;
    }
    const loss = weightedMean(parts, corpora);
    const tokens = corpora.reduce((sum, one) => sum + one.tokens, 0);
    return { loss, perplexity: Math.exp(loss), tokens, corpora };
  }

  /**
   * Mean cross-entropy of a text, cut into sequences; each token but the first is predicted once.
   * @throws SLUICE_E_DATA_TOO_SMALL for a text of a single token, SLUICE_E_CUDA_KERNEL, and the errors of `codec`
   */
  async evaluateText(text: string, options: EvaluateTextOptions = {}): Promise<Evaluated> {
    this.#checkSizes();
    const tokens = await this.#textTokens(text);
    const sequenceLength = Math.min(options.sequenceLength ?? this.sequenceLength, tokens.length - 1);
    const cut = { tokens, sequenceLength, isBegun: this.#beginsSequences };
    const source = textSource(cut);
    return this.#score(source, source.numSequences, textRemainder(cut), options.onProgress);
  }

  /**
   * The paper's measurements of the first sequences of a corpus, or of a text.
   * @throws the errors of `evaluate` or of `evaluateText`
   */
  async diagnose({
    split,
    dataDirectory,
    text,
    sequenceLength,
    ...options
  }: DiagnoseOptions): Promise<Diagnosis> {
    const length = sequenceLength ?? Math.min(this.sequenceLength, LONGEST_DIAGNOSED);
    const source =
      text === undefined
        ? await this.#corpusParts(split, dataDirectory, length)
        : await this.#wholeTextSource(text, length);
    return diagnose(this.decoder, source, { ...options, update: await this.#parts.measureUpdate() });
  }

  /**
   * Needle in a haystack or variable tracking, at any length.
   * @throws SLUICE_E_TASK_LENGTH, SLUICE_E_TASK_HAYSTACK, SLUICE_E_TOKENIZER_TEXT, and the errors of `codec`, and of `evaluate`
   *   for the haystack
   */
  async retrieve(haystack: HaystackChoice, options: LongContextOptions): Promise<LongContextResult> {
    const codec = await this.codec();
    return retrieveFromContext(this.decoder, codec, await this.#haystackOf(haystack, options), options);
  }

  async #haystackOf(choice: HaystackChoice, { seed }: LongContextOptions): Promise<Haystack> {
    if (choice.kind === 'noise') return noiseHaystack(seed);
    if (choice.kind === 'text') return textHaystack(1, () => choice.text);
    const [part] = await this.#corpusParts(choice.split, choice.dataDirectory, this.sequenceLength);
    const { source } = part!;
    const { tokenizer, start } = await this.codec();
    const marks = new Set([...start, tokenizer.endOfTextId]);
    const tokens = new Int32Array(source.sequenceLength + 1);
    return textHaystack(source.numSequences, (sequence) => {
      source.read(sequence, tokens);
      return partsBetween(tokens.subarray(0, -1), marks)
        .map((part) => tokenizer.decode(part))
        .join('\n');
    });
  }

  /** @param longest tokens of a sequence, or as many as the text has */
  async #wholeTextSource(text: string, longest: number): Promise<TokenSource> {
    const tokens = await this.#textTokens(text);
    const sequenceLength = Math.min(longest, tokens.length - 1);
    return textSource({ tokens, sequenceLength, isBegun: this.#beginsSequences });
  }

  /** Whether every sequence of a text, and not the first alone, is to begin with the text's first token. */
  get #beginsSequences(): boolean {
    const { documents, beginning } = this.#parts.reading ?? {};
    return beginning !== undefined && documents !== 'separate';
  }

  /** A split of each corpus that has one. @throws SLUICE_E_DATA_SPLIT_EMPTY when none has */
  async #corpusParts(
    split: EvaluateOptions['split'],
    directory: string | undefined,
    sequenceLength: number,
  ): Promise<ValidationPart[]> {
    const { datasets, weights } = await this.#openCorpora(directory);
    const has = (dataset: Dataset) => split === 'train' || dataset.holdsOut;
    // Where no corpus has the split, the first says so.
    const chosen = datasets.some(has) ? datasets.filter(has) : datasets.slice(0, 1);
    return chosen.map((dataset) => ({
      name: dataset.manifest.name,
      weight: weights[datasets.indexOf(dataset)]!,
      source: dataset.sampler({ ...this.#parts.reading, split, sequenceLength, seed: 0 }),
    }));
  }

  async #textTokens(text: string): Promise<number[]> {
    const { tokenizer, start, end } = await this.codec();
    const tokens = [...start, ...tokenizer.encodeOrdinary(text), ...end];
    if (tokens.length >= 2) return tokens;
    throw new SluiceError(
      'SLUICE_E_DATA_TOO_SMALL',
      `The text has ${tokens.length} tokens; it takes two to predict one.`,
    );
  }

  /** Of losses; those of logits have been checked when the model was loaded. */
  #checkSizes(): void {
    validateCudaSizes({ ...this.computedBy, model: this.decoder.config });
  }

  async #score(
    source: TokenSource,
    total: number,
    rest: Grain | undefined,
    onProgress: EvaluateOptions['onProgress'],
  ): Promise<Evaluated> {
    let sum = 0;
    let tokens = 0;
    const score = (grain: Grain) => {
      const onParts = ({ crossEntropySum }: LossParts) => {
        sum += crossEntropySum;
      };
      const totalTokens = grain.inputs.length;
      this.decoder.loss({ ...grain, totalTokens, expertLoads: [], onParts }).dispose();
      tokens += totalTokens;
    };
    let done = 0;
    for (const grain of grainsOf(source, total)) {
      score(grain);
      done += grain.sequences;
      onProgress?.(done, total);
      await new Promise(setImmediate);
    }
    if (rest) score(rest);
    const loss = sum / tokens;
    return { loss, perplexity: Math.exp(loss), tokens };
  }

  async #openCorpora(directory: string | undefined): Promise<TrainedCorpora> {
    const { openCorpora } = this.#parts;
    if (directory === undefined && !openCorpora) {
      throw new SluiceError(
        'SLUICE_E_DATA_UNKNOWN',
        'The model knows of no corpus: it was not trained here.',
      );
    }
    this.#closeCorpora();
    this.#corpora =
      directory === undefined ? openCorpora!() : { datasets: [openDataset(directory)], weights: [1] };
    for (const dataset of this.#corpora.datasets) {
      this.#checkVocabulary(dataset.manifest.tokenizer.vocabularySize, dataset.directory);
      if (directory !== undefined) await this.#checkTokenizer(dataset);
    }
    return this.#corpora;
  }

  /** Ids mean nothing to a model that was trained with another tokenizer's. */
  async #checkTokenizer(dataset: Dataset): Promise<void> {
    const { directory } = dataset;
    const { tokenizerPath } = await this.codec();
    if (dataset.hasTokenizer(tokenizerPath)) return;
    throw new SluiceError(
      'SLUICE_E_TOKENIZER_MISMATCH',
      `${directory} was prepared with another tokenizer than ${tokenizerPath}.`,
      { details: { directory, tokenizer: tokenizerPath } },
    );
  }

  #checkVocabulary(size: number, what: string): void {
    const { vocabularySize } = this.decoder.config;
    if (size <= vocabularySize) return;
    throw new SluiceError(
      'SLUICE_E_VOCABULARY_TOO_SMALL',
      `The model knows ${vocabularySize} tokens, but ${what} has ${size}.`,
      { details: { vocabularySize, size } },
    );
  }

  #closeCorpora(): void {
    for (const dataset of this.#corpora?.datasets ?? []) dataset.close();
  }

  /** Nothing is asked of the model afterwards. */
  close(): void {
    this.#closeCorpora();
    this.#parts.release?.();
  }
}
