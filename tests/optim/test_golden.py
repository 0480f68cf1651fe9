import json

import golden
import pytest
import torch

RECORDED = json.loads(golden.PLACE.read_text())
# Others than these, which agree to the bit, round the steps of a multiplication and addition on their own.
PROCESSORS = ("AVX2", "AVX512")


def test_every_method_has_its_courses():
    assert RECORDED.keys() == golden.COURSES
    assert {form.split()[0] for form in golden.FORMS} == golden.METHODS.keys()


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in PROCESSORS, reason="recorded with AVX2 or AVX-512")
@pytest.mark.parametrize("course", sorted(RECORDED))
def test_a_course_is_the_same_to_the_bit(course):
    assert golden.run(course) == RECORDED[course]
