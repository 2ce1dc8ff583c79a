package prompt

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDecoder(t *testing.T) {
	r := func(r rune) key { return key{code: keyRune, r: r} }
	for in, want := range map[string][]key{
		"a":                           {r('a')},
		"é音":                          {r('é'), r('音')},
		"\xc3(":                       {{code: keyByte, r: 0xc3}, r('(')},
		"\xff":                        {{code: keyByte, r: 0xff}},
		"\xe0\x80\x80":                {{code: keyByte, r: 0xe0}, {code: keyByte, r: 0x80}, {code: keyByte, r: 0x80}},
		"\x1b":                        {{code: keyEscape}},
		"\x1b\x1b":                    {{code: keyEscape}, {code: keyEscape}},
		"\x1b\r":                      {{code: keyEscape}, {code: keyEnter}},
		"\x1ba":                       nil,
		"\x1b[A":                      {{code: keyUp}},
		"\x1bOB":                      {{code: keyDown}},
		"\x1b[1;5C":                   {{code: keyRight}},
		"\x1b[5~\x1b[6~":              {{code: keyPageUp}, {code: keyPageDown}},
		"\x1b[[Ax":                    {r('x')},
		"\x1b[Z":                      {{code: keyBacktab}},
		"\x1bOM":                      {{code: keyEnter}},
		"\x1b[<0;1;1M":                nil,
		"\x1b[1\x03":                  {{code: keyInterrupt}},
		"\x1b[":                       nil,
		"\x1b[200~a\x1b[A\n\x1b[201~": {{code: keyRune, r: 'a', pasted: true}, {code: keyEnter, pasted: true}, {code: keyPasteEnd}},
		"\x1b[201~a":                  {r('a')},
		"\x1b" + "[" + strings.Repeat("1", maxSequence) + "a": {r('1'), r('1'), r('a')},
	} {
		var d decoder
		if got := d.flush(d.feed([]byte(in), nil)); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

// FuzzDecoder holds that the division of the bytes makes no difference, that the
// decoder keeps little, that text arrives as it was, and that Ctrl-C always gets
// through.
func FuzzDecoder(f *testing.F) {
	for _, s := range []string{"abc", "\x1b[A\x1b\x1b[200~x\r\n\x1b[201~", "é音\xff\xc3", "\x1b[1;5", "\x1b[[A\x1bOP"} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint8) {
		var whole, parts decoder
		want := whole.feed(b, nil)
		i := min(int(at), len(b))
		got := parts.feed(b[i:], parts.feed(b[:i], nil))
		if !slices.Equal(got, want) {
			t.Fatalf("in two parts %v, in one %v", got, want)
		}
		if len(whole.esc) > maxSequence || len(whole.utf) >= utf8.UTFMax {
			t.Fatalf("keeps %d and %d bytes", len(whole.esc), len(whole.utf))
		}
		interrupts := 0
		for _, k := range want {
			switch {
			case k.code == keyInterrupt:
				interrupts++
			case k.code == keyRune && (k.r < 0x20 || k.r == 0x7f):
				t.Fatalf("a control character as text: %v", k)
			}
		}
		if interrupts != bytes.Count(b, []byte{3}) {
			t.Fatalf("%d times Ctrl-C of %d", interrupts, bytes.Count(b, []byte{3}))
		}
		if bytes.IndexFunc(b, func(r rune) bool { return r < 0x20 || r == 0x7f }) >= 0 {
			return
		}
		var text []byte
		for _, k := range whole.flush(want) {
			if k.code == keyByte {
				text = append(text, byte(k.r))
			} else {
				text = utf8.AppendRune(text, k.r)
			}
		}
		if !bytes.Equal(text, b) {
			t.Fatalf("%q became %q", b, text)
		}
	})
}
