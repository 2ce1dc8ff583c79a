package oauth

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "Bad verification code.", "Bad verification code."},
		{"empty", "", ""},
		{"letters of the world", "Größe 日本語 é", "Größe 日本語 é"},
		{"CSI", "a\x1b[31;1mred\x1b[0m b", "ared b"},
		{"OSC with BEL", "a\x1b]0;title\x07b", "ab"},
		{"OSC 8 with ST", "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"},
		{"OSC without end keeps the text", "\x1b]0;title", "0;title"},
		{"C1 CSI", "a\u009b31mb", "ab"},
		{"C1 OSC", "a\u009d0;x\u009cb", "ab"},
		{"lone escape", "a\x1b", "a"},
		{"newlines", "one\r\ntwo\nthree\u2028four\u0085five", "one two three four five"},
		{"tabs and blanks", " \t a \u00a0\u3000 b  ", "a b"},
		{"NUL BS DEL", "a\x00b\x08c\x7fd", "abcd"},
		{"bidi", "user\u202egpj.exe\u2066x\u2069\u200f\u061c", "usergpj.exex"},
		{"zero width", "a\u200bb\u200dc\ufeffd\u2060e\u00adf", "abcdef"},
		{"tag characters", "a\U000e0041b", "ab"},
		{"private use", "a\ue000b", "ab"},
		{"not UTF-8", "a\xffb", "a\ufffdb"},
		{"workflow command", "::add-mask::x", ": :add-mask::x"},
		{"workflow command hidden by a control", "\x1b[0m\r\n:\u200b:set-output name=a::b", ": :set-output name=a::b"},
		{"workflow command after a line end", "x\n::error::y", "x ::error::y"},
		{"azure command", "##vso[task.setvariable]x", "# #vso[task.setvariable]x"},
		{"200 characters", strings.Repeat("ä", 200), strings.Repeat("ä", 200)},
		{"201 characters", strings.Repeat("ä", 201), strings.Repeat("ä", 199) + "…"},
		{"megabyte", strings.Repeat("x", 1<<20), strings.Repeat("x", 199) + "…"},
	} {
		if got := Clean(tt.in); got != tt.want {
			t.Errorf("%s: Clean(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func checkCleaned(t *testing.T, in, got string) {
	t.Helper()
	if !utf8.ValidString(got) || utf8.RuneCountInString(got) > 200 {
		t.Errorf("Clean(%q) = %q: not UTF-8 or too long", in, got)
	}
	for _, r := range got {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			t.Errorf("Clean(%q) = %q: holds %U", in, got, r)
		}
	}
	if strings.HasPrefix(got, "::") || strings.HasPrefix(got, "##") {
		t.Errorf("Clean(%q) = %q: begins with a command", in, got)
	}
	if again := Clean(got); again != got {
		t.Errorf("Clean(Clean(%q)) = %q, want %q", in, again, got)
	}
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", "a", "\x1b[31mx", "\x1b]0;a\x07", "::x", ":\u200b:x", "\u202e", "\x9b1m", "# #", "\x1b\x1b[["} {
		f.Add(s)
	}
	for _, s := range []string{"a b", " a", "a ", "a  b", "##[x", "~!", strings.Repeat("x", maxCleanRunes+1)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkCleaned(t, s, Clean(s))
		if isClean(s) && cleanLine(s) != s {
			t.Errorf("%q counts as clean, and would become %q", s, cleanLine(s))
		}
	})
}

func TestCleanURL(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"https://example.com/a?b=c&d=e%20f#g", "https://example.com/a?b=c&d=e%20f#g"},
		{"http://127.0.0.1:8080/", "http://127.0.0.1:8080/"},
		{"http://[::1]:8080/x", "http://[::1]:8080/x"},
		{"HTTPS://Example.com", "https://Example.com"},
		{"https://example.com/?a=$(id)", "https://example.com/?a=%24%28id%29"},
		{"https://example.com/?a=`id`", "https://example.com/?a=%60id%60"},
		{"https://example.com/?a=x|y;z", "https://example.com/?a=x%7Cy%3Bz"},
		{`https://example.com/?a="b'c\d`, "https://example.com/?a=%22b%27c%5Cd"},
		{"https://example.com/ä?q=ö", "https://example.com/%C3%A4?q=%C3%B6"},
	} {
		got, err := CleanURL(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("CleanURL(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{
		"", "-flag", "--version", "file:///etc/passwd", "javascript:alert(1)", "data:text/html,x", "ftp://example.com/",
		"//example.com/", "/path", "https://", "https:///path", "https:example.com", "https://user@example.com/",
		"https://user:pw@example.com/", "https://exa mple.com/", "https://example.com/a b", "https://example.com/\n",
		"https://example.com/\x00", "https://example.com/\x1b[0m", "https://example.com/\x7f", "https://-x.example/",
		"https://$(id).example/", "https://`id`/", "https://a|b/", "https://exämple.com/", "https://example.com:99999999/",
		"https://example.com:/", "https://example.com/?a=%zz", "https://example.com/\u202e", "https://[::1%25lo]/",
		"https://example.com/\u00a0", "https://::1/", "https://[example.com]/", "https://example.com\\@evil.example/",
		"https://example.com/" + strings.Repeat("a", 9000), "https://example.com/?" + strings.Repeat("\"", 4000),
	} {
		if got, err := CleanURL(in); err == nil {
			t.Errorf("CleanURL(%.60q) = %.60q, want an error", in, got)
		} else if len(in) > 8 && strings.Contains(err.Error(), in) {
			t.Errorf("CleanURL(%.60q): the error repeats the URL", in)
		}
	}
}

func FuzzCleanURL(f *testing.F) {
	for _, s := range []string{"https://example.com/a?b=%20#c", "http://[::1]:1/", "https://x/?$()", "https://x/%", "-x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := CleanURL(s)
		if err != nil {
			return
		}
		if again, err := CleanURL(got); err != nil || again != got {
			t.Errorf("CleanURL(%q) = %q, again %q, %v", s, got, again, err)
		}
		if !strings.HasPrefix(got, "https://") && !strings.HasPrefix(got, "http://") {
			t.Errorf("CleanURL(%q) = %q", s, got)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'`$()|\\<>^;", r) }); i >= 0 {
			t.Errorf("CleanURL(%q) = %q: holds %q", s, got, got[i])
		}
	})
}

func TestCheckEndpoint(t *testing.T) {
	for _, tt := range []struct {
		in           string
		strict, loop bool // accepted without and with the loopback permission
	}{
		{"https://issuer.example/token?a=b", true, true},
		{"https://127.0.0.1:1/", true, true},
		{"http://127.0.0.1:1/token", false, true},
		{"http://[::1]:1/token", false, true},
		{"http://localhost:1/token", false, true},
		{"http://127.0.0.2/", false, false},
		{"http://issuer.example/token", false, false},
		{"http://localhost.evil.example/", false, false},
		{"http://127.0.0.1.evil.example/", false, false},
		{"https://issuer.example/#f", false, false},
		{"https://issuer.example/#", false, false},
		{"https://u@issuer.example/", false, false},
		{"file:///token", false, false},
	} {
		for _, allow := range []bool{false, true} {
			want := tt.strict
			if allow {
				want = tt.loop
			}
			if _, err := checkEndpoint(tt.in, allow); (err == nil) != want {
				t.Errorf("checkEndpoint(%q, %v): %v", tt.in, allow, err)
			}
		}
	}
}
