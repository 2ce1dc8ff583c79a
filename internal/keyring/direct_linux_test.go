package keyring

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// message is an answer as a bus sends it.
func message(kind byte, reply uint32, signature string, body []byte) []byte {
	m := encoder{b: []byte{'l', kind, 0, 1}}
	m.uint32(uint32(len(body)))
	m.uint32(7)
	m.uint32(0)
	m.align(8)
	m.b = append(m.b, 5)
	m.signature("u")
	m.uint32(reply)
	if signature != "" {
		m.align(8)
		m.b = append(m.b, 8)
		m.signature("g")
		m.signature(signature)
	}
	m.b[12] = byte(len(m.b) - 16)
	m.align(8)
	return append(m.b, body...)
}

func text(parts ...string) []byte {
	var e encoder
	for _, p := range parts {
		e.string(p)
	}
	return e.b
}

func paths(lists ...[]string) []byte {
	var e encoder
	for _, list := range lists {
		var in encoder
		for _, p := range list {
			in.string(p)
		}
		e.uint32(uint32(len(in.b)))
		e.b = append(e.b, in.b...)
		e.align(4)
	}
	return e.b
}

func opened(session string) []byte {
	var e encoder
	e.signature("s")
	e.string("")
	e.string(session)
	return e.b
}

func secrets(item, session, parameters, value string) []byte {
	var e encoder
	e.string(item)
	e.align(8)
	for _, p := range []string{session, parameters, value} {
		e.uint32(uint32(len(p)))
		e.b = append(e.b, p...)
		if p == session {
			e.b = append(e.b, 0)
		}
	}
	e.string("text/plain")
	var whole encoder
	whole.uint32(uint32(len(e.b)))
	whole.align(8)
	return append(whole.b, e.b...)
}

// bus answers the nth message with the nth script, and returns its address.
func bus(t *testing.T, scripts ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 8192)
				for _, s := range scripts {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					if _, err := conn.Write(s); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "unix:path=" + path
}

func TestDirectAgainstScripts(t *testing.T) {
	const item, session = loginItems + "1", secretsPath + "/session/s1"
	hello := append([]byte("OK 0123456789abcdef\r\n"), message(2, 1, "s", text(":1.5"))...)
	signal := message(4, 0, "s", text("org.example"))
	found := message(2, 2, "aoao", paths([]string{item}, nil))
	open := message(2, 3, "vo", opened(session))
	given := message(2, 4, "a{o(oayays)}", secrets(item, session, "", "the value"))
	for name, c := range map[string]struct {
		scripts [][]byte
		ok      bool
		useless bool
	}{
		"the common case":         {[][]byte{hello, found, open, given}, true, false},
		"signals between":         {[][]byte{append(hello, signal...), append(bytes.Clone(signal), found...), open, append(bytes.Clone(signal), given...)}, true, false},
		"refused":                 {[][]byte{[]byte("REJECTED EXTERNAL\r\n")}, false, true},
		"endless line":            {[][]byte{bytes.Repeat([]byte("x"), 8000)}, false, true},
		"closed at once":          {nil, false, true},
		"closed later":            {[][]byte{hello, found}, false, true},
		"not found":               {[][]byte{hello, message(2, 2, "aoao", paths(nil, nil))}, false, false},
		"locked":                  {[][]byte{hello, message(2, 2, "aoao", paths(nil, []string{item}))}, false, false},
		"another is locked":       {[][]byte{hello, message(2, 2, "aoao", paths([]string{item}, []string{item + "2"}))}, false, false},
		"two":                     {[][]byte{hello, message(2, 2, "aoao", paths([]string{item, item + "2"}, nil))}, false, false},
		"another collection":      {[][]byte{hello, message(2, 2, "aoao", paths([]string{secretsPath + "/collection/other/1"}, nil))}, false, false},
		"an error":                {[][]byte{hello, message(3, 2, "s", text("no such method"))}, false, true},
		"another signature":       {[][]byte{hello, message(2, 2, "as", paths([]string{item}))}, false, true},
		"another item":            {[][]byte{hello, found, open, message(2, 4, "a{o(oayays)}", secrets(item+"2", session, "", "x"))}, false, true},
		"another session":         {[][]byte{hello, found, open, message(2, 4, "a{o(oayays)}", secrets(item, session+"2", "", "x"))}, false, true},
		"encrypted":               {[][]byte{hello, found, open, message(2, 4, "a{o(oayays)}", secrets(item, session, "iv", "x"))}, false, true},
		"too short":               {[][]byte{hello, found, open, message(2, 4, "a{o(oayays)}", secrets(item, session, "", "x")[:40])}, false, true},
		"big endian":              {[][]byte{hello, append([]byte{'B'}, found[1:]...)}, false, true},
		"a length out of bounds":  {[][]byte{hello, append([]byte{'l', 2, 0, 1, 255, 255, 255, 255}, found[8:]...)}, false, true},
		"fields out of bounds":    {[][]byte{hello, append(bytes.Clone(found[:12]), 255, 255, 255, 127)}, false, true},
		"an array out of bounds":  {[][]byte{hello, message(2, 2, "aoao", []byte{255, 255, 255, 255})}, false, true},
		"a string without an end": {[][]byte{hello, message(2, 2, "aoao", []byte{8, 0, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c', 'd'})}, false, true},
		"a late answer":           {[][]byte{hello, append(message(2, 9, "aoao", nil), found...), open, given}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := new(direct)
			value, ok := d.get(bus(t, c.scripts...), "service", "account")
			if ok != c.ok || ok && value != "the value" || d.useless != c.useless {
				t.Errorf("value %q, ok %v, useless %v", value, ok, d.useless)
			}
			d.close()
		})
	}
	t.Run("no socket", func(t *testing.T) {
		for _, address := range []string{"unix:path=/nonexistent", "unix:path=" + strings.Repeat("/x", 100), "unix:abstract=apiauth-nobody"} {
			if _, ok := new(direct).get(address, "service", "account"); ok {
				t.Errorf("%s: an answer", address)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add(message(2, 2, "aoao", paths([]string{loginItems + "1"}, nil)))
	f.Add(message(2, 4, "a{o(oayays)}", secrets("/i", "/s", "", "v")))
	f.Add(message(3, 2, "s", text("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 16 {
			return
		}
		head, body, n, err := frame(b)
		if err != nil || n > len(b) {
			return
		}
		if n < 16 || len(body) > n || head.kind != b[1] {
			t.Errorf("a message of %d bytes, a body of %d", n, len(body))
		}
		d := decoder{b: body}
		_ = d.strings()
		_, _, _ = d.signature(), d.string(), d.bytes()
		if d.at > len(body) {
			t.Error("read past the end")
		}
	})
}
