/* The floor for JPEG: what libjpeg-turbo alone takes for decoding the luma at the scale that is still twice the width wanted, and
 * for encoding a gray picture of the wanted size. No resize: nobody can be faster and do the work.
 * cc -O2 floor.c -o floor -ljpeg; floor PICTURE RESULT COUNT */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jpeglib.h>

#define WIDTH 800
#define QUALITY 85

static double milliseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static unsigned char *content;
static size_t content_bytes;

static void load(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) { perror(path); exit(1); }
  fseek(file, 0, SEEK_END);
  content_bytes = ftell(file);
  rewind(file);
  free(content);
  content = malloc(content_bytes);
  if (fread(content, 1, content_bytes, file) != content_bytes) { perror(path); exit(1); }
  fclose(file);
}

static void work(const char *picture, const char *result) {
  struct jpeg_error_mgr errors;
  struct jpeg_decompress_struct in;
  struct jpeg_compress_struct out;
  load(picture);
  in.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&in);
  jpeg_mem_src(&in, content, content_bytes);
  jpeg_read_header(&in, TRUE);
  in.out_color_space = JCS_GRAYSCALE;
  in.scale_num = 1;
  in.scale_denom = 1;
  while (in.scale_denom < 8 && in.image_width / (in.scale_denom * 2) >= 2 * WIDTH) in.scale_denom *= 2;
  jpeg_start_decompress(&in);
  size_t stride = in.output_width;
  unsigned char *pixels = malloc(stride * in.output_height);
  while (in.output_scanline < in.output_height) {
    JSAMPROW row = pixels + stride * in.output_scanline;
    jpeg_read_scanlines(&in, &row, 1);
  }
  int height = (int)((double)in.image_height * WIDTH / in.image_width + 0.5);
  jpeg_finish_decompress(&in);
  jpeg_destroy_decompress(&in);

  FILE *file = fopen(result, "wb");
  if (!file) { perror(result); exit(1); }
  out.err = jpeg_std_error(&errors);
  jpeg_create_compress(&out);
  jpeg_stdio_dest(&out, file);
  out.image_width = WIDTH;
  out.image_height = height;
  out.input_components = 1;
  out.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&out);
  jpeg_set_quality(&out, QUALITY, TRUE);
  jpeg_start_compress(&out, TRUE);
  while (out.next_scanline < out.image_height) {
    JSAMPROW row = pixels + stride * out.next_scanline;
    jpeg_write_scanlines(&out, &row, 1);
  }
  jpeg_finish_compress(&out);
  jpeg_destroy_compress(&out);
  fclose(file);
  free(pixels);
}

int main(int arguments, char **argument) {
  if (arguments < 4) { fprintf(stderr, "usage: floor PICTURE RESULT COUNT\n"); return 2; }
  int count = atoi(argument[3]);
  double *cpu = malloc(sizeof(double) * count), *wall = malloc(sizeof(double) * count);
  work(argument[1], argument[2]);
  for (int i = 0; i < count; i++) {
    double cpu_before = milliseconds(CLOCK_PROCESS_CPUTIME_ID), wall_before = milliseconds(CLOCK_MONOTONIC);
    work(argument[1], argument[2]);
    cpu[i] = milliseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
    wall[i] = milliseconds(CLOCK_MONOTONIC) - wall_before;
  }
  long peak = 0;
  char line[256];
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &peak);
  if (status) fclose(status);
  printf("{\"version\": \"libjpeg %d\", \"cpu_ms\": [", JPEG_LIB_VERSION);
  for (int i = 0; i < count; i++) printf("%s%.4f", i ? ", " : "", cpu[i]);
  printf("], \"wall_ms\": [");
  for (int i = 0; i < count; i++) printf("%s%.4f", i ? ", " : "", wall[i]);
  printf("], \"rss_bytes\": %ld}\n", peak * 1024L);
  return 0;
}
