package prompt

import "unicode/utf8"

// key is one key press, or one character of a paste.
type key struct {
	code   keyCode
	r      rune // of keyRune; the byte's value of keyByte
	pasted bool // part of a bracketed paste
}

type keyCode uint8

const (
	keyRune keyCode = iota
	keyByte         // a byte that is not UTF-8
	keyEnter
	keyUp
	keyDown
	keyLeft
	keyRight
	keyHome
	keyEnd
	keyPageUp
	keyPageDown
	keyTab
	keyBacktab
	keyBackspace
	keyDelete
	keyEscape
	keyKill      // Ctrl-U: the line
	keyKillWord  // Ctrl-W: the word before
	keyInterrupt // Ctrl-C
	keyEOT       // Ctrl-D, end of transmission
	keyPasteEnd  // the end of a bracketed paste
)

// maxSequence bounds an escape sequence: longer ones are no keys.
const maxSequence = 32

// decoder turns the bytes that a raw terminal sends into keys. How the bytes were
// divided among reads does not matter.
type decoder struct {
	esc     []byte // an escape sequence that has begun, ESC first
	utf     []byte // a character that is not complete
	pasting bool
}

// feed appends the keys that b completes to keys.
func (d *decoder) feed(b []byte, keys []key) []key {
	for _, c := range b {
		keys = d.add(c, keys)
	}
	return keys
}

// pending reports whether bytes are waiting for others.
func (d *decoder) pending() bool { return len(d.esc)+len(d.utf) > 0 }

// flush says that nothing followed in time: a lone ESC was the Escape key.
func (d *decoder) flush(keys []key) []key {
	keys = d.broken(keys)
	if len(d.esc) == 1 && !d.pasting {
		keys = append(keys, key{code: keyEscape})
	}
	d.esc = d.esc[:0]
	return keys
}

// broken gives up the character that is not complete.
func (d *decoder) broken(keys []key) []key {
	for _, c := range d.utf {
		keys = append(keys, key{code: keyByte, r: rune(c), pasted: d.pasting})
	}
	clear(d.utf)
	d.utf = d.utf[:0]
	return keys
}

func (d *decoder) add(c byte, keys []key) []key {
	if len(d.utf) > 0 {
		if c >= 0x80 && c <= 0xbf {
			d.utf = append(d.utf, c)
			if !utf8.FullRune(d.utf) {
				return keys
			}
			r, n := utf8.DecodeRune(d.utf)
			if n != len(d.utf) {
				return d.broken(keys)
			}
			clear(d.utf)
			d.utf = d.utf[:0]
			return append(keys, key{code: keyRune, r: r, pasted: d.pasting})
		}
		keys = d.broken(keys)
	}
	if len(d.esc) > 0 {
		switch {
		case c == 0x03:
			d.esc = d.esc[:0]
		case c == 0x1b:
			keys = d.flush(keys)
		case len(d.esc) == 1 && (c < 0x20 || c >= 0x7f):
			keys = d.flush(keys) // the Escape key alone, and now another one
		default:
			d.esc = append(d.esc, c)
			if !d.complete() {
				return keys
			}
			keys = d.sequence(keys)
			d.esc = d.esc[:0]
			return keys
		}
	}
	switch {
	case c == 0x1b:
		d.esc = append(d.esc[:0], c)
		return keys
	case c < 0x20 || c == 0x7f:
		return d.control(c, keys)
	case c < 0x80:
		return append(keys, key{code: keyRune, r: rune(c), pasted: d.pasting})
	}
	d.utf = append(d.utf[:0], c)
	if utf8.FullRune(d.utf) {
		return d.broken(keys) // it begins no character
	}
	return keys
}

func (d *decoder) control(c byte, keys []key) []key {
	k := key{pasted: d.pasting}
	switch c {
	case 0x03:
		k.code = keyInterrupt
	case '\r', '\n':
		k.code = keyEnter
	case '\t':
		k.code = keyTab
	default:
		if d.pasting {
			return keys
		}
		switch c {
		case 0x01:
			k.code = keyHome
		case 0x02:
			k.code = keyLeft
		case 0x04:
			k.code = keyEOT
		case 0x05:
			k.code = keyEnd
		case 0x06:
			k.code = keyRight
		case 0x08, 0x7f:
			k.code = keyBackspace
		case 0x0e:
			k.code = keyDown
		case 0x10:
			k.code = keyUp
		case 0x15:
			k.code = keyKill
		case 0x17:
			k.code = keyKillWord
		default:
			return keys
		}
	}
	return append(keys, k)
}

// complete reports whether the escape sequence has its last byte.
func (d *decoder) complete() bool {
	n, last := len(d.esc), d.esc[len(d.esc)-1]
	switch {
	case n == 2:
		return last != '[' && last != 'O'
	case d.esc[1] == 'O', n >= maxSequence:
		return true
	case n == 3:
		return last >= 0x40 && last <= 0x7e && last != '[' // ESC [ [ A is F1 of the Linux console
	case d.esc[2] == '[':
		return true
	}
	return last >= 0x40 && last <= 0x7e
}

// sequence appends the key that an escape sequence stands for, if any.
func (d *decoder) sequence(keys []key) []key {
	if len(d.esc) < 3 {
		return keys // Alt and a key
	}
	body, last := string(d.esc[2:]), d.esc[len(d.esc)-1]
	if d.esc[1] == '[' {
		switch body {
		case pasteBegin:
			d.pasting = true
			return keys
		case pasteEnd:
			if d.pasting {
				d.pasting = false
				keys = append(keys, key{code: keyPasteEnd})
			}
			return keys
		}
	}
	if d.pasting || d.esc[2] == '[' {
		return keys
	}
	code, ok := named(body, last)
	if !ok {
		return keys
	}
	return append(keys, key{code: code})
}

// named is the key that the parameters and the last byte of a CSI or SS3 sequence
// stand for; Shift, Alt and Ctrl make no difference.
func named(body string, last byte) (keyCode, bool) {
	switch last {
	case 'A':
		return keyUp, true
	case 'B':
		return keyDown, true
	case 'C':
		return keyRight, true
	case 'D':
		return keyLeft, true
	case 'F':
		return keyEnd, true
	case 'H':
		return keyHome, true
	case 'M': // Enter of the keypad
		return keyEnter, body == "M"
	case 'Z':
		return keyBacktab, true
	case '~':
		switch body {
		case "1~", "7~":
			return keyHome, true
		case "3~":
			return keyDelete, true
		case "4~", "8~":
			return keyEnd, true
		case "5~":
			return keyPageUp, true
		case "6~":
			return keyPageDown, true
		}
	}
	return 0, false
}
