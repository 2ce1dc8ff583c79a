// Keeps the list of connections as it is now, without a reload. Everything works
// without this script.
'use strict';
(() => {
  const live = document.getElementById('live');
  if (!live) return;
  const spoken = document.getElementById('spoken');
  const pause = 1500; // milliseconds
  let shown = '';
  let said = '';
  let held = ''; // the pointer, or the key that is down

  // A click is one on what is under the pointer, or has the focus, at its beginning
  // and at its end: nothing is replaced in between.
  function hold(e) {
    if (e.type === 'pointerdown' ? e.button === 0 : e.key === ' ' || e.key === 'Enter') held = e.key ?? 'pointer';
  }

  // A menu, another window or another page leaves no end of what has begun.
  function release(e) {
    const ends = { keyup: e.key, pointerup: 'pointer', pointercancel: 'pointer' }[e.type] ?? held;
    if (ends === held) setTimeout(() => { held = ''; }); // the click comes first
  }

  function words() {
    return Array.from(live.querySelectorAll('[data-spoken]'), (e) => e.textContent).join(' ');
  }

  // What a person is at stays: the focus, what was unfolded, and what was typed.
  function replace(html) {
    const focus = live.contains(document.activeElement) ? document.activeElement.id : '';
    const open = Array.from(live.querySelectorAll('details[open]'), (e) => e.id);
    const typed = Array.from(live.querySelectorAll('input[id]'), (e) => [e.id, e.value]);
    live.innerHTML = html;
    for (const [id, value] of typed) {
      const field = document.getElementById(id);
      if (field && value) field.value = value;
    }
    for (const id of open) document.getElementById(id)?.setAttribute('open', '');
    if (focus) (document.getElementById(focus) ?? document.getElementById('content')).focus({ preventScroll: true });
  }

  function speak() {
    const now = words();
    if (now !== said) spoken.textContent = now;
    said = now;
  }

  async function look() {
    if (!document.hidden) {
      let answer;
      try {
        answer = await fetch(live.dataset.address, { cache: 'no-store' });
      } catch {
        spoken.textContent = 'The dashboard has ended.';
        spoken.className = 'notice bad';
        return;
      }
      if (answer.ok) {
        const html = await answer.text();
        if (!held) {
          if (html !== shown) replace(html);
          shown = html;
          speak();
        }
      }
    }
    setTimeout(look, pause);
  }

  for (const name of ['pointerdown', 'keydown']) live.addEventListener(name, hold);
  for (const name of ['pointerup', 'pointercancel', 'keyup', 'contextmenu', 'blur', 'pageshow']) window.addEventListener(name, release);
  said = words();
  setTimeout(look, pause);
})();
