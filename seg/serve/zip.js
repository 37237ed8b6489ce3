"use strict";

/** A ZIP file of uncompressed files, [name, bytes] each: PNGs do not get smaller. */
function zip(files) {
  const parts = [], directory = [];
  let offset = 0, size = 0;
  const encoder = new TextEncoder();
  for (const [name, content] of files) {
    const title = encoder.encode(name), head = new DataView(new ArrayBuffer(30)), entry = new DataView(new ArrayBuffer(46));
    const sum = crc32(content);
    for (const [view, start, signature] of [[head, 4, 0x04034b50], [entry, 6, 0x02014b50]]) {
      view.setUint32(0, signature, true);
      view.setUint16(start, 20, true); // version
      view.setUint16(start + 2, 0x800, true); // names are UTF-8
      view.setUint16(start + 8, 0x21, true); // date: 1 January 1980
      view.setUint32(start + 10, sum, true);
      view.setUint32(start + 14, content.length, true);
      view.setUint32(start + 18, content.length, true);
      view.setUint16(start + 22, title.length, true);
    }
    entry.setUint16(4, 20, true);
    entry.setUint32(42, offset, true);
    parts.push(head, title, content);
    directory.push(entry, title);
    offset += 30 + title.length + content.length;
    size += 46 + title.length;
  }
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, size, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

function crc32(content) {
  let sum = ~0;
  for (const byte of content) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}
