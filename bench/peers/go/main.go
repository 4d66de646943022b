// Go with disintegration/imaging, as hand-made services use it: open, resize (Lanczos), gray, JPEG of quality 85.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/disintegration/imaging"
	_ "golang.org/x/image/webp"
)

func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// In KiB.
func peak() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	kilobytes, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		panic(err)
	}
	return kilobytes
}

func work(picture, result string) {
	image, err := imaging.Open(picture)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	gray := imaging.Grayscale(imaging.Resize(image, 800, 0, imaging.Lanczos))
	if err := imaging.Save(gray, result, imaging.JPEGQuality(85)); err != nil {
		panic(err)
	}
}

func main() {
	runtime.GOMAXPROCS(1)
	picture, result := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	work(picture, result)
	cpus, walls := []float64{}, []float64{}
	for i := 0; i < count; i++ {
		before, start := cpu(), time.Now()
		work(picture, result)
		cpus = append(cpus, float64((cpu()-before).Microseconds())/1000)
		walls = append(walls, float64(time.Since(start).Microseconds())/1000)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"version": "imaging 1.6.2, " + runtime.Version(), "cpu_ms": cpus, "wall_ms": walls, "rss_bytes": peak() * 1024,
	})
}
