/** What the script in the page of a diagnosis draws. It travels as JSON inside the page. */

export interface MapData {
  /** Id of the canvas. */
  readonly id: string;
  readonly cells: number;
  /** Tokens of a cell. */
  readonly perCell: number;
  /** Base64 of one byte for each cell, row by row: 255·√weight. */
  readonly weights: string;
  /** The same of each row's weight of the first token alone. */
  readonly firstToken: string;
}
