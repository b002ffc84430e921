/*
 * Provides an item as the server sends it; each test changes the fields that it is about.
 */

export const ITEM = {
  index: 0,
  seq: 1,
  size: 1,
  progress: null,
  message: null,
  error: null,
  result: null,
  attempt: 1,
  worker: null,
  lease_until: null,
  started_at: null,
  finished_at: null,
};
