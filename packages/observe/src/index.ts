export * from './diagnosticsLog.ts';
export * from './format.ts';
export * from './metricsLog.ts';
export * from './progress/clock.ts';
export * from './progress/display.ts';
export * from './record.ts';
export * from './report/report.ts';
export * from './terminal.ts';
