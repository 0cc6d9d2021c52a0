// How does a test type a command without a process for it?
// The command's own main runs in this process, which is much faster; what it wrote is caught. The first commands of a
// file, and all that end or become processes themselves (`run`, `broker`, `sidecar`), are better started.
import { vi } from "vitest";
import { main } from "../../src/cli/program.ts";

export async function typed(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const said = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((stream) => vi.spyOn(process[stream], "write").mockImplementation((text) => {
    said[stream] += String(text);
    return true;
  }));
  try {
    return { code: await main(args), ...said };
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = undefined;
  }
}
