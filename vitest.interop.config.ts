import { defineConfig } from "vitest/config";

// Proof against software that is not ours: needs Go, Python, OpenSSL and Java, and their package registries. And what takes long.
export default defineConfig({
  test: {
    include: ["test/interop/**/*.test.ts"],
    globalSetup: ["test/support/server.ts", "test/interop/toolchains.ts"],
    testTimeout: 240_000,
    hookTimeout: 240_000,
    pool: "forks",
    maxWorkers: 2,
  },
});
