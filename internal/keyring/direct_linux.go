package keyring

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// direct reads items of the Secret Service in four calls where the library
// makes eleven, each of which waits for the one before: most of the time of a
// command that only wants a token. It reads the common case alone, one unlocked
// item in the login collection, and gives up on everything else, without having
// changed anything: then the library is asked, and has the last word. It never
// unlocks, so no prompt is its doing.
//
// The order of the calls is not free. gnome-keyring 42 aborts when OpenSession
// is the first call of a client, or sent before the first was answered; every
// call here waits for its answer, and the search comes first.
//
// A direct is used by one call at a time, which Keyring sees to.
type direct struct {
	connected bool
	fd        int
	address   string
	serial    uint32
	buffer    []byte // received and not yet looked at
	session   string // object path
	useless   bool   // this keychain is not served here
}

const (
	secretsName  = "org.freedesktop.secrets"
	secretsPath  = "/org/freedesktop/secrets"
	loginItems   = secretsPath + "/collection/login/"
	secretsIface = "org.freedesktop.Secret.Service"
	busName      = "org.freedesktop.DBus"

	// directTimeout bounds the wait for one answer. A keychain that takes
	// longer is waiting for something, and the library's call says for what.
	directTimeout = 2 * time.Second
	maxReply      = 1 << 20
)

// errDirect says that the library has to be asked; why does not matter.
var errDirect = errors.New("not the common case")

// get returns the value of an item; ok is false when the library has to be
// asked.
func (d *direct) get(address, service, account string) (value string, ok bool) {
	if d == nil || d.useless {
		return "", false
	}
	if d.connected && d.address != address {
		d.close()
	}
	if !d.connected && d.connect(address) != nil {
		d.useless = true
		return "", false
	}
	item, err := d.search(service, account)
	if err == nil && item == "" {
		return "", false // the connection is as good as before
	}
	if err == nil {
		value, err = d.secret(item)
	}
	if err != nil {
		d.close()
		d.useless = true
		return "", false
	}
	return value, true
}

func (d *direct) close() {
	if d.connected {
		_ = syscall.Close(d.fd)
	}
	*d = direct{useless: d.useless}
}

// connect opens the first socket of an address that checkBusAddress accepted,
// and introduces us. The bus takes authentication and the first call in one
// write.
func (d *direct) connect(address string) error {
	first, _, _ := strings.Cut(address, ";")
	name := ""
	for pair := range strings.SplitSeq(strings.TrimPrefix(first, "unix:"), ",") {
		key, value, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			return err
		}
		switch key {
		case "path":
			name = value
		case "abstract":
			name = "@" + value
		}
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	*d = direct{connected: true, fd: fd, address: address}
	limit := syscall.NsecToTimeval(directTimeout.Nanoseconds())
	for _, option := range []int{syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO} {
		if err == nil {
			err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &limit)
		}
	}
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: name})
	}
	if err == nil {
		uid := hex.EncodeToString([]byte(strconv.Itoa(os.Getuid())))
		err = d.send(append([]byte("\x00AUTH EXTERNAL "+uid+"\r\nBEGIN\r\n"),
			d.message(busName, "/org/freedesktop/DBus", busName, "Hello", "", nil)...))
	}
	if err == nil {
		err = d.accepted()
	}
	if err == nil {
		_, err = d.answer("s")
	}
	if err != nil {
		d.close()
	}
	return err
}

// accepted reads the line that ends the authentication.
func (d *direct) accepted() error {
	for {
		if line, rest, found := strings.Cut(string(d.buffer), "\r\n"); found {
			d.buffer = []byte(rest)
			if !strings.HasPrefix(line, "OK ") {
				return errDirect
			}
			return nil
		}
		if len(d.buffer) > 4096 {
			return errDirect
		}
		if err := d.fill(); err != nil {
			return err
		}
	}
}

// search returns the one item with these attributes that is not locked and lies
// in the login collection, where the library would find it too; else nothing.
func (d *direct) search(service, account string) (item string, err error) {
	var attributes encoder
	attributes.uint32(0) // length, below
	attributes.align(8)
	start := len(attributes.b)
	for _, pair := range [][2]string{{"service", service}, {"username", account}} {
		attributes.align(8)
		attributes.string(pair[0])
		attributes.string(pair[1])
	}
	binary.LittleEndian.PutUint32(attributes.b, uint32(len(attributes.b)-start)) //nolint:gosec // a few hundred bytes
	reply, err := d.call("SearchItems", "a{ss}", attributes.b, "aoao")
	if err != nil {
		return "", err
	}
	unlocked, locked := reply.strings(), reply.strings()
	if reply.bad {
		return "", errDirect
	}
	if len(unlocked) != 1 || len(locked) != 0 || !strings.HasPrefix(unlocked[0], loginItems) {
		return "", nil
	}
	return unlocked[0], nil
}

// secret reads an item. The session ends with the connection.
func (d *direct) secret(item string) (string, error) {
	if d.session == "" {
		var plain encoder
		plain.string("plain")
		plain.signature("s")
		plain.string("")
		reply, err := d.call("OpenSession", "sv", plain.b, "vo")
		if err != nil {
			return "", err
		}
		if reply.signature() != "s" {
			return "", errDirect
		}
		_ = reply.string()
		if d.session = reply.string(); reply.bad || !strings.HasPrefix(d.session, "/") {
			return "", errDirect
		}
	}
	var which encoder
	which.uint32(0)
	which.string(item)
	binary.LittleEndian.PutUint32(which.b, uint32(len(which.b)-4)) //nolint:gosec // a path
	which.string(d.session)
	reply, err := d.call("GetSecrets", "aoo", which.b, "a{o(oayays)}")
	if err != nil {
		return "", err
	}
	size := reply.uint32()
	reply.align(8)
	from := reply.at
	path := reply.string()
	reply.align(8)
	session, parameters, value := reply.string(), reply.bytes(), reply.bytes()
	_ = reply.string()                                                                                                      // the type of the content
	if reply.bad || path != item || session != d.session || len(parameters) != 0 || uint64(reply.at-from) != uint64(size) { //nolint:gosec // not negative
		return "", errDirect
	}
	return string(value), nil
}

// call calls a method of the Secret Service and waits for its answer, whose
// signature must be the given one.
func (d *direct) call(method, signature string, body []byte, answer string) (*decoder, error) {
	if err := d.send(d.message(secretsName, secretsPath, secretsIface, method, signature, body)); err != nil {
		return nil, err
	}
	return d.answer(answer)
}

// message builds a method call with the next serial number.
func (d *direct) message(destination, path, iface, member, signature string, body []byte) []byte {
	d.serial++
	m := encoder{b: []byte{'l', 1, 0, 1}} // little endian, a method call, no flags, version 1
	m.uint32(uint32(len(body)))           //nolint:gosec // names of items are limited
	m.uint32(d.serial)
	m.uint32(0) // length of the fields, below
	field := func(code byte, kind, value string) {
		m.align(8)
		m.b = append(m.b, code)
		m.signature(kind)
		if kind == "g" {
			m.signature(value)
		} else {
			m.string(value)
		}
	}
	field(1, "o", path)
	field(2, "s", iface)
	field(3, "s", member)
	field(6, "s", destination)
	if signature != "" {
		field(8, "g", signature)
	}
	binary.LittleEndian.PutUint32(m.b[12:], uint32(len(m.b)-16)) //nolint:gosec // as above
	m.align(8)
	return append(m.b, body...)
}

// answer waits for the answer to the last call. Errors and everything that is
// odd are errDirect; signals and late answers are passed over.
func (d *direct) answer(signature string) (*decoder, error) {
	for range 64 {
		for len(d.buffer) < 16 {
			if err := d.fill(); err != nil {
				return nil, err
			}
		}
		head, body, n, err := frame(d.buffer)
		if err != nil {
			return nil, err
		}
		if n > len(d.buffer) {
			if err := d.fill(); err != nil {
				return nil, err
			}
			continue
		}
		d.buffer = d.buffer[n:]
		switch {
		case head.reply != d.serial:
			continue
		case head.kind != 2 || head.signature != signature:
			return nil, errDirect
		}
		return &decoder{b: body}, nil
	}
	return nil, errDirect
}

// header is what matters of a message's header.
type header struct {
	kind      byte
	reply     uint32
	signature string
}

// frame takes the first message of b apart: n is its length, which may be more
// than there is yet; then the rest is not set. b has at least 16 bytes.
func frame(b []byte) (h header, body []byte, n int, err error) {
	size, fields := uint64(binary.LittleEndian.Uint32(b[4:])), uint64(binary.LittleEndian.Uint32(b[12:]))
	if b[0] != 'l' || b[3] != 1 || size > maxReply || fields > 4096 {
		return h, nil, 0, errDirect
	}
	start := (16 + fields + 7) &^ 7
	n = int(start + size) //nolint:gosec // limited above
	if len(b) < n {
		return h, nil, n, nil
	}
	h.kind = b[1]
	d := decoder{b: b[:16+fields], at: 16}
	for d.at < len(d.b) && !d.bad {
		d.align(8)
		code := d.byte()
		switch kind := d.signature(); kind {
		case "u":
			if v := d.uint32(); code == 5 {
				h.reply = v
			}
		case "g":
			if v := d.signature(); code == 8 {
				h.signature = v
			}
		case "s", "o":
			_ = d.string()
		default:
			d.bad = true
		}
	}
	if d.bad {
		return h, nil, 0, errDirect
	}
	return h, b[start:n:n], n, nil
}

// send writes all of b. The calls block the thread and not only the goroutine:
// handing it over costs more than the wait.
func (d *direct) send(b []byte) error {
	for len(b) > 0 {
		n, err := syscall.Write(d.fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return err
		}
		b = b[n:]
	}
	return nil
}

// fill reads what has arrived, or waits for something.
func (d *direct) fill() error {
	if len(d.buffer) > maxReply+8192 {
		return errDirect
	}
	var chunk [4096]byte
	for {
		n, err := syscall.Read(d.fd, chunk[:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return err
		case n <= 0:
			return errDirect // the bus has closed the connection
		}
		d.buffer = append(d.buffer, chunk[:n]...)
		return nil
	}
}

// encoder writes values as D-Bus has them, little endian.
type encoder struct{ b []byte }

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) uint32(v uint32) {
	e.align(4)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) string(s string) {
	e.uint32(uint32(len(s))) //nolint:gosec // names of items are limited
	e.b = append(append(e.b, s...), 0)
}

func (e *encoder) signature(s string) {
	e.b = append(append(append(e.b, byte(len(s))), s...), 0) //nolint:gosec // a few bytes
}

// decoder reads them. After the first fault it reads nothing more.
type decoder struct {
	b   []byte
	at  int
	bad bool
}

// take returns the next n bytes.
func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)-d.at) { //nolint:gosec // at never passes the end
		d.bad = true
		return nil
	}
	v := d.b[d.at : d.at+int(n)] //nolint:gosec // not more than there is
	d.at += int(n)               //nolint:gosec // as above
	return v
}

func (d *decoder) align(n int) {
	for d.at%n != 0 && !d.bad {
		d.take(1)
	}
}

func (d *decoder) byte() byte {
	if v := d.take(1); len(v) == 1 {
		return v[0]
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	d.align(4)
	if v := d.take(4); len(v) == 4 {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) bytes() []byte { return d.take(uint64(d.uint32())) }

// string reads a string or an object path.
func (d *decoder) string() string { return d.terminated(uint64(d.uint32())) }

func (d *decoder) signature() string { return d.terminated(uint64(d.byte())) }

func (d *decoder) terminated(n uint64) string {
	v := d.take(n + 1)
	if len(v) == 0 || v[n] != 0 {
		d.bad = true
		return ""
	}
	return string(v[:n])
}

// strings reads an array of strings.
func (d *decoder) strings() (list []string) {
	size := uint64(d.uint32())
	end := uint64(d.at) + size         //nolint:gosec // not negative
	for !d.bad && uint64(d.at) < end { //nolint:gosec // as above
		list = append(list, d.string())
	}
	if uint64(d.at) != end { //nolint:gosec // as above
		d.bad = true
	}
	return list
}
