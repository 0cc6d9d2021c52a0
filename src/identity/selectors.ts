// What can be proved about a caller, and what does a registered agent or service ask for?
// Always true: a fact is a value of its own under a key of the closed list below; facts and
// what is asked for are compared value by value, never as joined text.
// How facts are proved is src/attest's business; whether they suffice is src/authorize/match.ts's.

/** What was proved. A fact that could not be proved is absent. */
export type Facts = {
  readonly uid: number;
  readonly gid: number;
  readonly user?: string;
  readonly group?: string;
  /** Of the executable, if the file that this path names to the broker is the one that runs. */
  readonly path?: string;
  /** Of the executable's content, lower-case hex; absent until asked for. */
  readonly sha256?: string;
  readonly cgroup?: string;
  readonly systemdUnit?: string;
  readonly containerId?: string;
};

/** One alternative: every fact in it must hold. */
export type SelectorSet = Partial<Facts>;

export const selectorKeys = [
  "uid", "gid", "user", "group", "path", "sha256", "cgroup", "systemdUnit", "containerId",
] as const satisfies readonly (keyof Facts)[];
