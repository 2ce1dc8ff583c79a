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

  function words() {
    return Array.from(live.querySelectorAll('[data-spoken]'), (e) => e.textContent).join(' ');
  }

  // What a person is at stays: the focus, and what was unfolded.
  function replace(html) {
    const focus = live.contains(document.activeElement) ? document.activeElement.id : '';
    const open = Array.from(live.querySelectorAll('details[open]'), (e) => e.id);
    live.innerHTML = html;
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
        if (html !== shown) replace(html);
        shown = html;
        speak();
      }
    }
    setTimeout(look, pause);
  }

  said = words();
  setTimeout(look, pause);
})();
