"""Style and script of a report."""

CSS = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; }
h2, summary { font-size: 1.25rem; font-weight: 600; margin: 2rem 0 .75rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
.wide { overflow-x: auto; }
figure { margin: 0 0 1rem; }
figure img, #panel { max-width: 100%; height: auto; background: #fff;
  border-radius: 4px; }
figcaption { font-size: .875rem; opacity: .75; }
#player label { display: flex; gap: .75rem; align-items: center;
  margin-bottom: .75rem; }
#player label[hidden] { display: none; }
#step { flex: 1; max-width: 30rem; }
select { font: inherit; max-width: 100%; min-width: 0; }
"""

# The place may be given in the address: report.html#item=0&step=2.
SCRIPT = """
const panels = JSON.parse(document.getElementById("panels").textContent);
const [item, step, at, panel] = ["item", "step", "at", "panel"].map(
  (name) => document.getElementById(name));
function show() {
  const steps = panels[item.value].steps;
  step.max = steps.length - 1;
  const shown = steps[step.value];
  at.textContent = shown.step;
  panel.src = shown.src;
}
function choose() {
  step.max = panels[item.value].steps.length - 1;
  step.value = step.max;
  show();
}
item.addEventListener("change", choose);
step.addEventListener("input", show);
const place = new URLSearchParams(location.hash.slice(1));
if (place.has("item")) item.value = place.get("item");
choose();
if (place.has("step")) { step.value = place.get("step"); show(); }
"""
