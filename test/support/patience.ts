// How long does a test wait for what must come?
// Until nothing good can come any more, also on a slow machine that does other things: it is a limit for what
// never comes, and nobody's promise. What a test must not wait for at all, it asks for once.
export const patienceMs = 60_000;
