"""OpenCV: decoded as gray, area interpolation, as its documentation advises for shrinking."""

import cv2
from measure import PICTURE, RESULT, measured

cv2.setNumThreads(1)


def work() -> None:
    image = cv2.imread(str(PICTURE), cv2.IMREAD_GRAYSCALE)
    height = round(image.shape[0] * 800 / image.shape[1])
    cv2.imwrite(str(RESULT), cv2.resize(image, (800, height), interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 85])


measured(work, f"OpenCV {cv2.__version__}")
