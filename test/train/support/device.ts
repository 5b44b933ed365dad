/** A device whose figures are made up, to plan and to simulate for. */
export const testDevice = (devicesPerHost: number) => ({
  name: 'test',
  memoryBytes: 1e9,
  flopsPerSecond: 1e12,
  efficiency: 0.5,
  memoryBytesPerSecond: 1e11,
  linkBytesPerSecond: 1e9,
  stagingBytesPerSecond: 1e9,
  cluster: {
    devicesPerHost,
    within: { latencySeconds: 0, messageSeconds: 0 },
    between: { bytesPerSecond: 1e9, latencySeconds: 0, messageSeconds: 0 },
  },
  source: 'made up',
});
