// Is a task with scope `cgroup` the whole unit's, and nobody else's?
// Every process of the agent in the unit, container or pod holds it, wherever below; a helper there does not, and
// keeps it alive no longer than the agent is; leaving the cgroup is leaving the task; a cgroup of the same name is
// another one; a broker that comes back finds it again. Real cgroups, real processes.
// What sidecars may is sidecar.test.ts's; trees and single processes are claim.test.ts's.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { boundary } from "../src/attest/cgroup.ts";
import { findRoot } from "../src/attest/cgroup-dir.ts";
import { agentUid } from "./support/agent.ts";
import type { Agent } from "./support/agent.ts";
import { kill, start } from "./support/spawn.ts";
import { Unit, canMakeUnits } from "./support/unit.ts";
import { World } from "./support/world.ts";

const id = "0123456789abcdef".repeat(4);
const pod = "1b2c3d4e_5f60_7182_93a4_b5c6d7e8f901";

describe("which cgroup is the unit, container or pod", () => {
  test.each([
    ["a unit", "/system.slice/agent.service", "/system.slice/agent.service"],
    ["a delegated unit's inside", "/system.slice/agent.service/supervisor/worker.scope", "/system.slice/agent.service"],
    ["a template's instance", "/system.slice/system-agent.slice/agent@7.service", "/system.slice/system-agent.slice/agent@7.service"],
    ["a session", "/user.slice/user-1000.slice/session-3.scope", "/user.slice/user-1000.slice/session-3.scope"],
    ["a user's own unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service"],
    ["a user's systemd itself", "/user.slice/user-1000.slice/user@1000.service/init.scope", undefined],
    ["Docker under systemd", `/system.slice/docker-${id}.scope`, `/system.slice/docker-${id}.scope`],
    ["Docker without", `/docker/${id}`, `/docker/${id}`],
    ["a system in a container", `/system.slice/docker-${id}.scope/system.slice/agent.service`, `/system.slice/docker-${id}.scope`],
    ["Podman without root", `/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-${id}.scope/container`, `/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-${id}.scope`],
    ["a pod under systemd", `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${pod}.slice/cri-containerd-${id}.scope`, `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${pod}.slice`],
    ["a guaranteed pod", `/kubepods.slice/kubepods-pod${pod}.slice/crio-${id}.scope`, `/kubepods.slice/kubepods-pod${pod}.slice`],
    ["a pod under cgroupfs", `/kubepods/besteffort/pod${pod.replaceAll("_", "-")}/${id}`, `/kubepods/besteffort/pod${pod.replaceAll("_", "-")}`],
    ["a pod of kind", `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${pod}.slice/cri-containerd-${id}.scope`, `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${pod}.slice`],
    ["a folder by hand", "/agents/7", undefined],
    ["the root", "/", undefined],
    ["outside of this namespace", "/../../agent.service", undefined],
  ])("%s", (_what, path, expected) => expect(boundary(`12:cpu:/else.service\n0::${path}\n`)).toBe(expected));

  test("none without the second version", () => expect(boundary("4:name=systemd:/system.slice/agent.service\n")).toBeUndefined());
  test("the hierarchy is found by its type, and only whole", () => {
    const line = (within: string, place: string, type: string): string => `31 24 0:26 ${within} ${place} rw,nosuid shared:9 - ${type} cgroup2 rw\n`;
    expect(findRoot(line("/", "/sys/fs/cgroup", "tmpfs") + line("/", "/sys/fs/cgroup/uni\\040fied", "cgroup2"))).toBe("/sys/fs/cgroup/uni fied");
    expect(findRoot(line("/system.slice", "/sys/fs/cgroup", "cgroup2"))).toBeUndefined();
  });
});

describe.runIf(canMakeUnits)("a unit's task", () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterAll(async () => await world.end());
  const inUnit = async (world: World, unit: Unit, below = ""): Promise<Agent> => {
    const agent = await world.agent();
    unit.add(agent.pid, below);
    return agent;
  };
  const refused = async (agent: Agent, how: { socket?: string } = {}): Promise<string> => await agent.x509(how).then(() => "SVID", (error: { code: string }) => error.code);

  test("is held by every process of the agent in it, by nobody outside, and ends when only helpers are left", async () => {
    await using unit = new Unit();
    await using other = new Unit("other.service");
    const [first, second, deeper, elsewhere] = [await inUnit(world, unit), await inUnit(world, unit), await inUnit(world, unit, "workers"), await inUnit(world, other)];
    const helper = await start("sleep", ["600"]); // root's: the selectors don't match it
    unit.add(helper.pid);
    const { id: task } = await world.open({ scope: "cgroup" });
    const { endpoint } = await first.claim(task);
    expect((await world.get(task)).instance).toMatchObject({ pid: first.pid, uid: agentUid, cgroup: unit.path });

    const held = await Promise.all([first, second, deeper].map(async (agent) => (await agent.x509())[0]));
    expect(new Set(held.map((svid) => svid?.serial)).size).toBe(1); // one instance, one SVID
    expect((await second.x509({ socket: endpoint }))[0]?.binding?.task).toBe(task);
    expect((await world.admin.log.explain({ pid: second.pid })).verdict).toBe(`it is in ${unit.path} and gets the SVIDs of its task`);
    expect((await world.admin.log.explain({ pid: elsewhere.pid })).verdict).toBe("it matches an agent, but no task of it is waiting");
    expect(await refused(elsewhere)).toBe("DENIED_NO_TASK");
    expect(await refused(elsewhere, { socket: endpoint })).toBe("DENIED_TASK_ENDED");

    await first.exit();
    await second.exit();
    expect((await deeper.jwt(["crm"]))[0]?.binding?.task).toBe(task);
    expect((await world.get(task)).state).toBe("active");
    await deeper.exit();
    const ended = await world.until("the end", async () => {
      const found = await world.get(task);
      return found.state === "aborted" && found;
    });
    expect(ended.endReason).toBe("nothing of the agent is left in its unit, container or pod");
    await Promise.all([kill(helper), elsewhere.exit()]);
  });

  test("is not its to whom the cgroup no longer is, nor a later one's of the same name", async () => {
    await using unit = new Unit();
    const [stays, goes] = [await inUnit(world, unit), await inUnit(world, unit)];
    const { id: task } = await world.open({ scope: "cgroup" });
    await stays.claim(task);
    const stream = goes.follow();
    await stream.next();
    unit.leave(goes.pid);
    expect(await goes.jwt(["crm"]).then(() => "JWT", (error: { code: string }) => error.code)).toMatch(/^DENIED_/);
    await world.change(task, { user: "bob" });
    expect((await stays.x509())[0]?.binding?.epoch).toBe(2);
    expect((await stream.ended)?.code).toMatch(/^DENIED_/);

    await stays.exit();
    await world.until("the end", async () => (await world.get(task)).state === "aborted");
    await goes.exit();
    await unit.remove();
    unit.make();
    const later = await inUnit(world, unit);
    expect(await refused(later)).toBe("DENIED_NO_TASK");
    await later.exit();
  });

  test("is taken by the first fetch too, and the others of the unit get it with it", async () => {
    await using unit = new Unit();
    const [one, two] = [await inUnit(world, unit), await inUnit(world, unit)];
    const { task, hints } = await world.until("a task within the wait", async () => {
      const streams = [one.follow(), two.follow()];
      await world.until("both wait", async () => streams.some(({ isOver }) => isOver) || (await world.broker.metric('brevet_now{what="waiting"}')) === 2);
      const { id } = await world.open({ scope: "cgroup", bind: "auto" });
      const got = await Promise.allSettled(streams.map((stream) => stream.next()));
      for (const stream of streams) stream.cancel();
      if (got.every(({ status }) => status === "fulfilled")) return { task: id, hints: got.map((each) => (each as PromiseFulfilledResult<{ hint: string }[]>).value[0]?.hint) };
      await world.close(id); // a wait was over before
      return false;
    });
    expect(hints).toEqual([task, task]);
    await Promise.all([one.exit(), two.exit()]);
  });

  test("is found again by a broker that comes back, and over if its agent went meanwhile", async () => {
    await using unit = new Unit();
    await using emptied = new Unit();
    const own = world;
    const [stays, goes] = [await inUnit(own, unit), await inUnit(own, emptied)];
    const [kept, lost] = [await own.open({ scope: "cgroup" }), await own.open({ scope: "cgroup" })];
    await stays.claim(kept.id);
    await goes.claim(lost.id);
    await own.kill9();
    await goes.exit();
    await own.broker.start();
    await own.until("the end", async () => (await own.get(lost.id)).state === "aborted");
    expect((await stays.x509())[0]?.binding?.task).toBe(kept.id);
    const second = await inUnit(own, unit);
    expect((await second.x509())[0]?.binding?.task).toBe(kept.id);
    await stays.exit();
    await second.exit();
    await own.until("the end", async () => (await own.get(kept.id)).state === "aborted");
  });

  test("is refused where there is no unit", async () => {
    const agent = await world.agent();
    const { id: task } = await world.open({ scope: "cgroup" });
    await expect(agent.claim(task)).rejects.toMatchObject({ code: "DENIED_UNATTESTED" });
    expect((await world.get(task)).state).toBe("ready");
  });
});
