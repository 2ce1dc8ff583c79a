package leak

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// tree writes files below a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func zipped(t *testing.T, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, files[i+1])
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func tarred(t *testing.T, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, files[i+1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func deflated(text string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// places lists findings as path!inside:line:offset form.
func places(dir string, r Report) []string {
	var list []string
	for _, f := range r.Findings {
		name, _ := filepath.Rel(dir, f.Path)
		name = strings.Join(append([]string{filepath.ToSlash(name)}, f.Inside...), "!")
		list = append(list, fmt.Sprintf("%s:%d:%d %s", name, f.Line, f.Offset, f.Form))
	}
	return list
}

func TestScanFindsEveryPlace(t *testing.T) {
	leaky := "line\nconst t = '" + plainCanary + "'\n"
	sources, err := json.Marshal(map[string]any{"version": 3, "sourcesContent": []string{"a\nb '" + canary + "'\n"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := tree(t, map[string]string{
		"clean.js":             "const t = 'none'\n",
		"app.js":               leaky,
		"app.js.map":           string(sources),
		"deep/er/data.bin":     strings.Repeat("\x00\xff\x01", pieceSize/3-5) + plainCanary,
		"node_modules/x/.env":  "A=" + base64.StdEncoding.EncodeToString([]byte("u:"+plainCanary)),
		".gitignore":           "node_modules\n",
		"pack.zip":             zipped(t, "in/a.txt", leaky, "in/b.txt", "clean"),
		"pack.tgz":             gzipped(tarred(t, "package/a.txt", "clean", "package/b.txt", leaky)),
		"pack.tar":             tarred(t, "package/b.txt", leaky),
		"app.js.gz":            gzipped(leaky),
		"nested.zip":           zipped(t, "one.zip", zipped(t, "two.tgz", gzipped(tarred(t, "three.txt", leaky)))),
		"git/objects/ab/cdef0": deflated("blob 9\x00" + leaky),
		"self.zip":             "not the beginning " + zipped(t, "x", "clean") + plainCanary,
	})
	s := set(canary, plainCanary)
	report, err := s.Scan(t.Context(), []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"app.js:2:16 raw",
		"app.js.gz!(unpacked):2:16 raw",
		"app.js.map:1:26 json",
		fmt.Sprintf("deep/er/data.bin:1:%d raw", 3*(pieceSize/3-5)),
		"git/objects/ab/cdef0!(unpacked):2:23 raw",
		"nested.zip!one.zip!two.tgz!three.txt:2:16 raw",
		"node_modules/x/.env:1:5 base64",
		"pack.tar!package/b.txt:2:16 raw",
		"pack.tgz!package/b.txt:2:16 raw",
		"pack.zip!in/a.txt:2:16 raw",
	}
	got := places(dir, report)
	got = slices.DeleteFunc(got, func(p string) bool { return strings.HasPrefix(p, "self.zip:") })
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(report.Findings) != len(want)+1 {
		t.Error("what stands behind an archive was not found")
	}
	if report.Files != 13 || len(report.Unread) != 0 || len(report.Closed) != 0 {
		t.Errorf("%d files, %v, %v", report.Files, report.Unread, report.Closed)
	}
}

// Ways of packing that are rarer, and archives in archives that only look like
// one: none of them hides anything.
func TestScanFindsWhatIsPackedOddly(t *testing.T) {
	leaky := strings.Repeat("padding ", 20) + plainCanary
	broken := gzipped(strings.Repeat("x", 10))[:12] + strings.Repeat("\x00", 20) + plainCanary
	odd := func(kind byte) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "odd", Size: int64(len(leaky)), Mode: 0o600, Typeflag: kind}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, leaky)
		_ = w.Close()
		return b.String()
	}
	dir := tree(t, map[string]string{
		"app.pyz":        "#!/usr/bin/env python3\n" + zipped(t, "a.py", leaky),
		"objects.tar.gz": gzipped(tarred(t, "git/cdef0", deflated(leaky))),
		"objects.zip":    zipped(t, "git/cdef0", deflated(leaky)),
		"fast": func() string {
			text := deflated(leaky)
			return text[:1] + "\x5e" + text[2:] // which zlib writes at levels 2 to 5
		}(),
		"contiguous.tgz": gzipped(odd(tar.TypeCont)),
		"unknown.tgz":    gzipped(odd('Q')),
		"looks-like.zip": zipped(t, "a.gz", broken, "b.bz2", "BZh9"+leaky, "c", "x\x9c"+leaky),
		"looks-like.tgz": gzipped(tarred(t, "a.gz", broken, "b.gz", gzipped(leaky))),
	})
	report, err := set(plainCanary).Scan(t.Context(), []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(leaky, plainCanary)
	want := []string{
		fmt.Sprintf("app.pyz!a.py:1:%d raw", at),
		fmt.Sprintf("contiguous.tgz!odd:1:%d raw", at),
		fmt.Sprintf("fast!(unpacked):1:%d raw", at),
		"looks-like.tgz!a.gz:1:32 raw",
		fmt.Sprintf("looks-like.tgz!b.gz!(unpacked):1:%d raw", at),
		"looks-like.zip!a.gz:1:32 raw",
		fmt.Sprintf("looks-like.zip!b.bz2:1:%d raw", at+4),
		fmt.Sprintf("looks-like.zip!c:1:%d raw", at+2),
		fmt.Sprintf("objects.tar.gz!git/cdef0!(unpacked):1:%d raw", at),
		fmt.Sprintf("objects.zip!git/cdef0!(unpacked):1:%d raw", at),
		fmt.Sprintf("unknown.tgz!odd:1:%d raw", at),
	}
	if got := places(dir, report); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestScanAcrossPieces(t *testing.T) {
	s := set(plainCanary)
	for _, before := range []int{pieceSize - 1, pieceSize - len(plainCanary) + 1, pieceSize - 20, pieceSize} {
		dir := tree(t, map[string]string{"f": strings.Repeat("\n", 10) + strings.Repeat("x", before-10) + plainCanary})
		report, err := s.Scan(t.Context(), []string{filepath.Join(dir, "f")})
		if want := []string{fmt.Sprintf("f:11:%d raw", before)}; err != nil || !slices.Equal(places(dir, report), want) {
			t.Errorf("%v, %v", places(dir, report), err)
		}
	}
}

func TestScanBombsAndBrokenArchives(t *testing.T) {
	zeros := strings.Repeat("\x00", 4<<20)
	deep := plainCanary
	for range maxDepth + 2 {
		deep = gzipped(deep)
	}
	encrypted := []byte(zipped(t, "a", "text"))
	for _, at := range [][]byte{[]byte("PK\x03\x04"), []byte("PK\x01\x02")} {
		i := bytes.Index(encrypted, at)
		flags := i + 6
		if at[2] == 1 {
			flags = i + 8
		}
		encrypted[flags] |= 1
	}
	dir := tree(t, map[string]string{
		"bomb.gz":       gzipped(zeros),
		"bomb.zip":      zipped(t, "a", zeros[:1<<20], "b", zeros, "c", plainCanary),
		"broken.zip":    "PK\x03\x04 nothing of a zip " + plainCanary,
		"broken.gz":     gzipped(strings.Repeat("text", 1000))[:30],
		"broken.tar":    tarred(t, "a", strings.Repeat("x", 2000), "b", "y")[:1800],
		"deep.gz":       deep,
		"encrypted.zip": string(encrypted),
		"x.txt":         "x\x9c is no archive " + plainCanary,
	})
	sc := &scan{set: set(plainCanary), budget: 2 << 20}
	report, err := sc.run(t.Context(), []string{dir})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"broken.zip:1:22 raw", "x.txt:1:17 raw"}
	if got := places(dir, report); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	var closed []string
	for _, err := range report.Closed {
		closed = append(closed, strings.TrimPrefix(err.Error(), dir+string(filepath.Separator)))
	}
	slices.Sort(closed)
	for i, name := range []string{"bomb.gz: it unpacks to more", "bomb.zip: it unpacks to more", "broken.gz", "broken.tar", "broken.zip", "deep.gz: too many", "encrypted.zip: it is encrypted"} {
		if len(closed) != 7 || !strings.HasPrefix(closed[i], name) {
			t.Fatalf("closed: %q", closed)
		}
	}
	if !errors.Is(report.Closed[0], errTooLarge) && len(report.Unread) != 0 {
		t.Error(report.Unread)
	}
}

func TestScanLinksAndWhatCannotBeRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links and modes of unix")
	}
	dir := tree(t, map[string]string{"real/secret": plainCanary, "tree/clean": "x", "tree/closed/file": "x"})
	if err := errors.Join(
		os.Symlink(filepath.Join(dir, "real"), filepath.Join(dir, "tree", "folder")),
		os.Symlink(filepath.Join(dir, "real", "secret"), filepath.Join(dir, "tree", "file")),
		os.Symlink("real", filepath.Join(dir, "named")),
	); err != nil {
		t.Fatal(err)
	}
	s := set(plainCanary)
	report, err := s.Scan(t.Context(), []string{filepath.Join(dir, "tree")})
	if err != nil || len(report.Findings) != 0 || report.Files != 2 {
		t.Errorf("%v, %d files, %v", places(dir, report), report.Files, err)
	}
	// A link that was named is meant.
	report, err = s.Scan(t.Context(), []string{filepath.Join(dir, "named")})
	if got := places(dir, report); err != nil || !slices.Equal(got, []string{"named/secret:1:0 raw"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := s.Scan(t.Context(), []string{filepath.Join(dir, "absent")}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if os.Geteuid() != 0 {
		if err := os.Chmod(filepath.Join(dir, "tree", "closed", "file"), 0); err != nil {
			t.Fatal(err)
		}
		if report, err = s.Scan(t.Context(), []string{dir}); err != nil || len(report.Unread) != 1 {
			t.Error(report.Unread, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Scan(ctx, []string{dir}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzScan: no file makes a search fail, and a token in front of anything is
// found.
func FuzzScan(f *testing.F) {
	f.Add([]byte(gzipped("text")))
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte("BZh9\x31\x41\x59\x26\x53\x59"))
	s := set(plainCanary)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(dir, "f")
		for _, doc := range [][]byte{text, append(slices.Clone(text), plainCanary...)} {
			if err := os.WriteFile(path, doc, 0o600); err != nil {
				t.Fatal(err)
			}
			sc := &scan{set: s, budget: 1 << 20}
			report, err := sc.run(t.Context(), []string{path})
			if err != nil || len(report.Unread) > 0 {
				t.Fatal(err, report.Unread)
			}
			if bytes.HasSuffix(doc, []byte(plainCanary)) && len(report.Findings) == 0 && !bytes.ContainsAny(text, "\x1b") {
				t.Fatal("not found")
			}
		}
	})
}

func BenchmarkScan(b *testing.B) {
	line := `{"level":"info","msg":"built in 3.4 s","path":"/srv/app/dist/assets/index-Dx81.js"}` + "\n"
	dir := b.TempDir()
	const files, size = 64, 4 << 20
	for i := range files {
		text := bytes.Repeat([]byte(line), size/len(line))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	s := set(canary, plainCanary, strings.Repeat("eyJhbGciOi", 80))
	b.SetBytes(files * size)
	b.ResetTimer()
	began := time.Now()
	for b.Loop() {
		if report, err := s.Scan(b.Context(), []string{dir}); err != nil || len(report.Findings) > 0 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*files*size)/(1<<30)/time.Since(began).Seconds(), "GiB/s")
}
