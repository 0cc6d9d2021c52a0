// Where do the tests get @peculiar/x509, their second opinion on certificates?
// It wants the metadata half of Reflect, which no part of Brevet needs: the three functions it calls
// are given to it here, and nothing else is.
// What it is asked is left to x509-svid.test.ts.
const metadata = new WeakMap<object, Map<unknown, unknown>>();
const get = (key: unknown, target: object): unknown => metadata.get(target)?.get(key);
Object.assign(Reflect, {
  getMetadata: get,
  getOwnMetadata: get,
  defineMetadata(key: unknown, value: unknown, target: object): void {
    metadata.set(target, (metadata.get(target) ?? new Map<unknown, unknown>()).set(key, value));
  },
});

// Not imported statically: it looks for them as it is loaded.
export const peculiar = await import("@peculiar/x509");
