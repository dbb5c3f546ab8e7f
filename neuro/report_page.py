"""The HTML page around a report: style for light, dark, phone and paper. Nothing in it asks for anything outside."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="neuro report {{version}}">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{title}}</title>
<style>
:root { --ink: #1f2328; --soft: #57606a; --page: #ffffff; --card: #f6f8fa; --line: #d0d7de; --link: #0060a8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b3; --page: #0f1419; --card: #1a2129; --line: #343c46; --link: #6cb6ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Noto Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1180px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.4rem 0 0.3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 0.8rem; padding-top: 0.7rem; border-top: 1px solid var(--line); }
p, ul { max-width: 46rem; margin: 0.6rem 0; overflow-wrap: anywhere; }
a { color: var(--link); }
code { font: 0.9em ui-monospace, Menlo, Consolas, monospace; background: var(--card); padding: 0.1em 0.3em; border-radius: 4px; }
.subtitle { color: var(--soft); margin-top: 0; }
nav { margin: 1rem 0; }
nav ol { display: flex; flex-wrap: wrap; gap: 0.3rem 1.3rem; margin: 0; padding: 0; list-style: none; max-width: none; }
nav a { display: inline-block; padding: 0.25rem 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.7rem; margin: 1rem 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 0.65rem 0.9rem; min-width: 0; }
.facts dt { color: var(--soft); font-size: 0.84rem; }
.facts dd { margin: 0.1rem 0 0; font-size: 1.3rem; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; white-space: nowrap; color: var(--soft); padding: 0 0 0.4rem; font-size: 0.9rem; }
th, td { padding: 0.35rem 0.8rem 0.35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { font-weight: 600; border-bottom-width: 2px; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.pictures { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; margin: 1rem 0; }
figure { margin: 0; flex: 1 1 400px; max-width: 565px; min-width: 0; }
figure.wide { flex-basis: 100%; max-width: 100%; }
figure.gif { flex: 0 1 auto; }
.frame { overflow-x: auto; }
.frame svg, .frame img { display: block; max-width: 100%; height: auto; }
.frame img.png { background: #ffffff; border-radius: 8px; }
.frame img.gif { border-radius: 8px; image-rendering: pixelated; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 0.4rem; max-width: 46rem; }
@media (max-width: 700px) {
  main { padding: 1rem 0.9rem 3rem; }
  h1 { font-size: 1.5rem; }
  figure { flex-basis: 100%; }
  .wide .frame svg, .wide .frame img { min-width: 640px; }
  .facts { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: 0.5rem; }
  .facts dd { font-size: 1.1rem; }
}
@media print {
  :root { --ink: #000000; --soft: #444444; --page: #ffffff; --card: #ffffff; --line: #bbbbbb; --link: #000000; }
  main { max-width: none; padding: 0; }
  figure, .facts, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  nav { display: none; }
  .scroll, .frame { overflow: visible; }
}
</style>
</head>
<body>
<main>
<header>
<h1>{{title}}</h1>
{{subtitle}}
</header>
{{contents}}
{{body}}
</main>
</body>
</html>
"""
