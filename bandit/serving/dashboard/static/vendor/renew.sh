#!/usr/bin/env bash
# Fetch the libraries again, at the versions below, and write them as the dashboard loads them; see README.md.
set -euo pipefail
cd "$(dirname "$0")"
preact=11.2.0 htm=3.1.1 uplot=1.6.32
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT

fetch() { # NAME VERSION: the package as npm publishes it, unpacked
  (cd "$work" && npm pack --silent "$1@$2" >/dev/null && mkdir "$1" && tar xzf "$1-$2.tgz" -C "$1" --strip-components 1)
}
plain() { sed '/^\/\/# sourceMappingURL=/d' "$1"; } # the maps are not shipped: browsers would ask for them in vain

fetch preact "$preact" && fetch htm "$htm" && fetch uplot "$uplot"
plain "$work/preact/dist/preact.mjs" >preact.js
plain "$work/preact/hooks/dist/hooks.mjs" | sed 's#from"preact"#from"./preact.js"#' >hooks.js # no import map: it would be inline
plain "$work/htm/dist/htm.module.js" >htm.js
{ plain "$work/uplot/dist/uPlot.iife.min.js"; printf '\nexport default uPlot;\n'; } >uplot.js # its own module is not minified
cp "$work/uplot/dist/uPlot.min.css" uplot.css
for name in preact htm uplot; do cp "$work/$name/LICENSE" "LICENSE.$name"; done
printf 'preact %s\nhtm %s\nuplot %s\n' "$preact" "$htm" "$uplot" >VERSIONS
sha256sum ./*.js ./*.css >SHA256SUMS
