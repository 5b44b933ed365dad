declare module 'asciichart' {
  interface PlotConfig {
    height?: number;
    offset?: number;
    format?: (value: number) => string;
    colors?: readonly string[];
  }
  const asciichart: { plot(series: readonly number[], config?: PlotConfig): string; readonly cyan: string };
  export default asciichart;
}
