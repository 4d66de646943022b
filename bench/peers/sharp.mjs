// sharp, on one thread: resize, gray, JPEG of quality 85. Found by Node in the folder that SHARP_HOME names.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const sharp = createRequire(`${process.env.SHARP_HOME}/`)('sharp');
const [, , picture, result, count] = process.argv;
sharp.concurrency(1);
sharp.cache(false);

async function work() {
  const image = sharp(picture).resize(800).grayscale();
  await (result.endsWith('.jpg') ? image.jpeg({ quality: 85 }) : image.png()).toFile(result);
}

await work();
const cpu = [];
const wall = [];
for (let i = 0; i < Number(count); i += 1) {
  const cpuBefore = process.cpuUsage();
  const wallBefore = process.hrtime.bigint();
  await work();
  const used = process.cpuUsage(cpuBefore);
  cpu.push((used.user + used.system) / 1000);
  wall.push(Number(process.hrtime.bigint() - wallBefore) / 1e6);
}
const rss = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'ascii'))[1]) * 1024;
console.log(JSON.stringify({ version: `sharp ${sharp.versions.sharp}`, cpu_ms: cpu, wall_ms: wall, rss_bytes: rss }));
