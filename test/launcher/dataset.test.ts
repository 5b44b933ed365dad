import test from 'ava';
import { sourceLines } from '../../launcher/src/coordinator/dataset.ts';

const NOTHING = { nullRecords: 0, missingRecords: 0, blankDocuments: 0, invalidSequences: 0 };

test('a source of which all was read is told in a line', (t) => {
  const source = { label: 'd', documents: 2, bytes: 9, files: ['a.txt'], passedOver: [], ...NOTHING };
  t.deepEqual(sourceLines({ sources: [source] }), ['  d: 1 file read (1 .txt)']);
});

test('files by their endings, what was passed over and what was left out are told', (t) => {
  const passedOver = Array.from({ length: 7 }, (_, i) => ({
    name: `${i}.pdf`,
    reason: 'matches no include',
  }));
  const files = ['a.jsonl', 'b/c.JSONL.zst', 'v1.2/d.jsonl', 'README'];
  const counts = { nullRecords: 1, missingRecords: 2, blankDocuments: 1, invalidSequences: 3 };
  const source = { label: 'd', documents: 2, bytes: 9, files, passedOver, ...counts };
  t.deepEqual(sourceLines({ sources: [source] }), [
    '  d: 4 files read (2 .jsonl, 1 .jsonl.zst, 1 no ending)',
    '    7 entries passed over: 0.pdf (matches no include), 1.pdf (matches no include), 2.pdf (matches no include), 3.pdf (matches no include), 4.pdf (matches no include), and 2 more, listed in sources.json',
    '    1 record with null passed over, 2 records without the field passed over, 1 blank document passed over, 3 sequences of bytes that are no text replaced or dropped',
  ]);
});
