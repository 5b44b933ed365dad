/** What is sent of something that happened. */

import { groupDigits } from '../format.ts';

export interface Notice {
  readonly event: string;
  /** Name of the run. */
  readonly run: string;
  readonly step: number;
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly text: string;
  /** Whether somebody should look. */
  readonly isBad: boolean;
}

export interface NoticeBody {
  readonly type: string;
  readonly body: string;
}

/** As `NOTICE_TEMPLATES` of the configuration name them. */
export type TemplateName = 'json' | 'slack' | 'discord' | 'teams' | 'text';

/** Discord takes no longer content. */
const DISCORD_CHARACTERS = 2000;

const TEMPLATES: Readonly<Record<TemplateName, (notice: Notice) => NoticeBody>> = {
  json: (notice) => json(notice),
  // What these characters would begin is no part of a run's name or message.
  slack: (notice) => json({ text: lineOf(notice, escapeSlack) }),
  discord: (notice) =>
    json({ content: lineOf(notice).slice(0, DISCORD_CHARACTERS), allowed_mentions: { parse: [] } }),
  teams: (notice) =>
    json({
      type: 'message',
      attachments: [
        {
          contentType: 'application/vnd.microsoft.card.adaptive',
          content: {
            ...{ type: 'AdaptiveCard', version: '1.4' },
            body: [
              {
                type: 'TextBlock',
                weight: 'Bolder',
                text: `${notice.run}, step ${groupDigits(notice.step)}`,
              },
              {
                type: 'TextBlock',
                wrap: true,
                text: notice.text,
                color: notice.isBad ? 'Attention' : 'Default',
              },
            ],
          },
        },
      ],
    }),
  text: (notice) => ({ type: 'text/plain; charset=utf-8', body: lineOf(notice) }),
};

export function noticeBody(template: TemplateName, notice: Notice): NoticeBody {
  return TEMPLATES[template](notice);
}

function lineOf(
  { run, step, text, isBad }: Notice,
  quoted: (text: string) => string = (same) => same,
): string {
  return `${isBad ? '⚠ ' : ''}${quoted(run)}, step ${groupDigits(step)}: ${quoted(text)}`;
}

function escapeSlack(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function json(value: object): NoticeBody {
  return { type: 'application/json', body: JSON.stringify(value) };
}
