// The list of homeworks: how much of each is done on this device.
import { load } from "./store.js";
import { kept } from "./engine.js";

let earned = 0, points = 0;
for (const item of document.querySelectorAll("[data-homework]")) {
  const most = Number(item.dataset.points), done = Math.min(most, load(item.dataset.homework).earned ?? 0);
  earned += done;
  points += most;
  const bar = item.querySelector("progress");
  bar.max = most;
  bar.value = done;
  item.querySelector(".done").textContent = done === most ? `all ${most} points` : `${done} of ${most} points`;
}
document.querySelector("#total").textContent = `${earned} of ${points} points so far, on this device`;
kept();
