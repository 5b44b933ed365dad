/** Fused operations on `cuda`. What is declared under `../../ops` and missing here runs by its reference, in plain operations. */

import './addResidual.ts';
import './attentionHeads.ts';
import './cachedAttention.ts';
import './deltaRule.ts';
import './dispatchTokens.ts';
import './embedding.ts';
import './exchangedExperts.ts';
import './expertFeedForward.ts';
import './gatedAttention.ts';
import './gatedFeedForward.ts';
import './gateHeads.ts';
import './linear.ts';
import './linearCrossEntropy.ts';
import './rmsNorm.ts';
import './rotaryEmbedding.ts';
import './routeExperts.ts';
import './shortConvolution.ts';
import './singlePrecision.ts';
