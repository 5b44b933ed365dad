/** A moment in the work of a stream. */
export interface Moment {
  /** Whether all before it is done. */
  isReached(): boolean;
  /** Blocks until it is. */
  wait(): void;
  /** What is asked for from now on is done after it, on whichever stream; the host goes on. */
  precede(): void;
  /** Ends the use of it, but for who waits by it already. One that was seen to be reached needs none. */
  forget(): void;
}
